"""``tollgate limits peek`` and ``tollgate limits reset``: one principal's buckets."""

from __future__ import annotations

import argparse
import asyncio
from dataclasses import dataclass

from service.admission.limiter import Limiter
from service.admission.models import Decision, Policy
from service.admission.networks import parse_address
from service.admission.published import PublishedLimits
from service.admission.rulebook import UNKNOWN_KEY, Rulebook, charge
from service.api.identity import IPV6_CLIENT_BITS, principal_of
from service.cli import context
from service.cli.limits import author, effective
from service.cli.terminal import show, table
from service.errors import ConfigurationError
from service.settings import Settings, load

FLEET = "fleet"


@dataclass(frozen=True, slots=True)
class Principal:
    """Whose buckets: a client's, or with ``fleet`` those of all clients together."""

    text: str
    key: str | None = None

    def policies(self, rulebook: Rulebook) -> list[Policy]:
        scope = "fleet" if self.text == FLEET else "client"
        return [p for p in rulebook.policies_for(self.key).values() if p.scope == scope]


def peek(arguments: argparse.Namespace) -> int:
    """What is left in each bucket; changes nothing."""
    if (arguments.principal is None) == (arguments.key is None):
        raise ConfigurationError("name either a PRINCIPAL or a --key")
    given = arguments.principal or f"key:{arguments.key}"
    principal, decision, rulebook = asyncio.run(_peek(load().settings, given))
    show(f"# principal: {principal.text}", f"# limits: {rulebook.version}")
    table(
        ("POLICY", "LEFT", "OF", "FULL IN", "SHADOW"),
        (
            (
                state.policy.name,
                str(state.remaining),
                str(state.policy.burst),
                f"{state.refill_ms / 1000:.1f} s",
                "yes" if state.policy.shadow else "no",
            )
            for state in decision.states
        ),
    )
    return 0


def reset(arguments: argparse.Namespace) -> int:
    """Fill the buckets again, all or that of one policy; workers notice within a second."""
    principal, done = asyncio.run(_reset(load().settings, arguments.principal, arguments.policy))
    show(*(f"{principal.text} {name}: {'reset' if was else 'was full'}" for name, was in done))
    return 0


async def _peek(settings: Settings, given: str) -> tuple[Principal, Decision, Rulebook]:
    async with context.store(settings) as store:
        rulebook = (await effective(settings, store)).rulebook
        principal = principal_from(given, rulebook)
        charges = [charge(policy, principal.text) for policy in principal.policies(rulebook)]
        return principal, await Limiter(store, workers_hint=1).peek(charges), rulebook


async def _reset(
    settings: Settings, given: str, only: str | None
) -> tuple[Principal, list[tuple[str, bool]]]:
    async with context.store(settings) as store:
        rulebook = (await effective(settings, store)).rulebook
        principal = principal_from(given, rulebook)
        policies = [
            policy for policy in principal.policies(rulebook) if only in (None, policy.name)
        ]
        if not policies:
            raise ConfigurationError(f"{principal.text} is not counted under a policy {only}")
        limiter = Limiter(store, workers_hint=1)
        done = []
        for policy in policies:
            subject = charge(policy, principal.text).subject
            done.append((policy.name, await limiter.reset(policy, subject)))
        await PublishedLimits(store).note(
            "reset", f"{principal.text} {only or 'all policies'}", author=author()
        )
        return principal, done


def principal_from(text: str, rulebook: Rulebook) -> Principal:
    """An address, ``ip:`` address or network, ``key:`` name, or ``fleet``, as it is counted.

    Raises ConfigurationError for anything else, and for a key that is not known.
    """
    if text in (FLEET, "peer:unknown"):
        return Principal(text)
    kind, _, rest = text.partition(":")
    if kind == "key":
        if rest != UNKNOWN_KEY and rest not in rulebook.keys.names():
            raise ConfigurationError(f"there is no key {rest} in the limits that hold")
        return Principal(text, rest)
    plain = rest if kind == "ip" else text
    address = parse_address(plain.removesuffix(f"/{IPV6_CLIENT_BITS}"))
    if address is None:
        raise ConfigurationError(
            f"{text}: must be an address, key:<name> or {FLEET} (see the access log's client)"
        )
    return Principal(principal_of(address))
