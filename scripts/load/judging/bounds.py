"""What limits a run is measured against, and who was let in under which of them.

In this order: what the scenario says; what the settings of the fleet that was started for it say;
what the answers say. Their field holds the burst and the seconds an empty bucket takes to fill,
rounded up, so the rate that follows from it is taken as high as it can be.
"""

from __future__ import annotations

import base64
import re
from array import array
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

from scripts.load.judging.admissions import Bound, Taken, admissions
from scripts.load.plan import Admitted
from scripts.load.record import Admissions
from scripts.load.scenario import Scenario
from service.settings.limits import FurtherPolicySettings, LimitSettings

_QUOTA = re.compile(r'"([^"]+)";q=(\d+);w=(\d+)')


def of_scenario(scenario: Scenario, known: Mapping[str, Bound]) -> dict[str, Bound]:
    """Its own rates; what a request takes, and whose bucket it is, stay as they are ``known``."""
    return {
        policy: replace(
            known.get(policy, Bound(policy, 0.0, 0)),
            rate_per_s=limit.rate.tokens / limit.rate.period_s,
            burst=limit.rate.tokens if limit.burst is None else limit.burst,
        )
        for policy, limit in scenario.limits.items()
    }


def of_settings(limits: LimitSettings) -> dict[str, Bound]:
    """Tiers are left out: a generator shows no keys."""
    return {
        name: Bound(
            name,
            policy.rate.tokens / policy.rate.period_s,
            policy.rate.tokens if policy.burst is None else policy.burst,
            policy.cost,
            shared=isinstance(policy, FurtherPolicySettings) and policy.scope == "fleet",
        )
        for name, policy in {**limits.route_classes, **limits.further}.items()
    }


def of_field(text: str) -> dict[str, Bound]:
    """RateLimit-Policy; nothing for a bucket that fills within a second: its rate may be any."""
    return {
        policy: Bound(policy, int(burst) / (int(window) - 1), int(burst))
        for policy, burst, window in _QUOTA.findall(text)
        if int(window) > 1
    }


def policies_in(text: str) -> list[str]:
    return [policy for policy, _, _ in _QUOTA.findall(text)]


def found(
    admitted: Sequence[Admitted], known: Mapping[str, Bound], *, seconds: float
) -> list[Admissions]:
    """For every policy and group; over all groups where they share one bucket."""
    taken: dict[tuple[str, str], dict[str, Taken]] = defaultdict(dict)
    told: dict[str, Bound] = {}
    for one in admitted:
        told |= of_field(one.policies)
        for policy in policies_in(one.policies):
            bound = known.get(policy)
            group = "all" if bound is not None and bound.shared else one.group
            of_all = taken[policy, group]
            principal = of_all.setdefault(one.principal, Taken(one.principal))
            principal.offered += one.offered
            principal.sent_s.extend(_moments(one.sent))
            principal.answered_s.extend(_moments(one.answered))
    bounds = {**told, **known}
    made = [
        admissions(group, bounds[policy], principals.values(), seconds=seconds)
        for (policy, group), principals in sorted(taken.items())
        if policy in bounds
    ]
    return [one for one in made if one is not None]


def _moments(text: str) -> array[float]:
    made = array("d")
    made.frombytes(base64.b64decode(text))
    return made
