"""From limits as data to a rulebook: what refers to another part is checked here, all of it.

Tiers and keys, lists and keys, policies and route classes, costs and bursts: every fault is a line
of one ConfigurationError, and a rulebook that exists is one that can be judged by.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from service.admission.api_keys import KeyHash, KeyRing
from service.admission.models import Policy
from service.admission.networks import Networks
from service.admission.rulebook import UNKNOWN_KEY, Listed, Rulebook
from service.errors import ConfigurationError
from service.settings import limits_document

if TYPE_CHECKING:
    from pydantic import SecretStr

    from service.settings.limits import (
        KeySettings,
        LimitSettings,
        ListSettings,
        PolicySettings,
        TierPolicySettings,
    )

_ALL_ROUTES = "*"


def rulebook_from(
    settings: LimitSettings, *, key_secret: SecretStr | None = None, source: str = "files"
) -> Rulebook:
    """The limits as rules; ``source`` says where they come from. Raises ConfigurationError."""
    policies, faults = _policies(settings)
    tiers, tier_faults = _tiers(settings, policies)
    faults += tier_faults
    faults += _route_faults(settings)
    faults += _list_faults(settings)
    ring, key_faults = _key_ring(settings.keys, key_secret)
    faults += key_faults
    faults += [
        f"limits.keys.{name}.tier: there is no tier {key.tier}"
        for name, key in settings.keys.items()
        if key.tier is not None and key.tier not in settings.tiers
    ]
    if faults:
        raise ConfigurationError("\n".join(faults))
    digest = hashlib.blake2b(limits_document(settings).encode(), digest_size=4).hexdigest()
    return Rulebook(
        version=f"{source}:{digest}",
        policies=policies,
        routes=_policies_by_route(settings),
        keys=ring,
        tier_of_key={name: key.tier for name, key in settings.keys.items() if key.tier},
        tiers=tiers,
        allow=_listed(settings.allow),
        deny=_listed(settings.deny),
    )


def _policies(settings: LimitSettings) -> tuple[dict[str, Policy], list[str]]:
    policies, faults = {}, []
    given: dict[str, PolicySettings] = {**settings.route_classes, **settings.further}
    for name, limit in given.items():
        further = settings.further.get(name)
        try:
            policies[name] = Policy(
                name=name,
                tokens=limit.rate.tokens,
                period_s=limit.rate.period_s,
                burst=limit.burst or limit.rate.tokens,
                on_outage=limit.on_outage,
                shadow=limit.shadow,
                scope=further.scope if further else "client",
                cost=limit.cost,
            )
        except ConfigurationError as error:
            faults.append(error.message)
    return policies, faults


def _tiers(
    settings: LimitSettings, policies: Mapping[str, Policy]
) -> tuple[dict[str, dict[str, Policy]], list[str]]:
    tiers: dict[str, dict[str, Policy]] = {}
    faults = []
    known = {*settings.route_classes, *settings.further}
    for tier, changes in settings.tiers.items():
        tiers[tier] = {}
        for name, change in changes.items():
            where = f"limits.tiers.{tier}.{name}"
            if name not in known:
                faults.append(f"{where}: there is no policy {name}")
            elif name in settings.further and settings.further[name].scope == "fleet":
                faults.append(f"{where}: {name} is one bucket for all clients, of whatever tier")
            elif name in policies:
                own = {**settings.route_classes, **settings.further}[name]
                try:
                    tiers[tier][name] = _changed(policies[name], own, change)
                except ConfigurationError as error:
                    faults.append(error.message.replace(f"limits.{name}:", f"{where}:", 1))
    return tiers, faults


def _changed(policy: Policy, own: PolicySettings, change: TierPolicySettings) -> Policy:
    rate = change.rate or own.rate
    return replace(
        policy,
        tokens=rate.tokens,
        period_s=rate.period_s,
        burst=change.burst or own.burst or rate.tokens,
        shadow=policy.shadow if change.shadow is None else change.shadow,
    )


def _route_faults(settings: LimitSettings) -> Iterator[str]:
    classes = settings.route_classes
    for name, policy in settings.further.items():
        for route in policy.routes:
            if route != _ALL_ROUTES and route not in classes:
                yield (
                    f"limits.{name}.routes: there is no route class {route};"
                    f" there are {', '.join(classes)}, and {_ALL_ROUTES} for all"
                )


def _policies_by_route(settings: LimitSettings) -> dict[str, tuple[str, ...]]:
    """The route class's own policy, the client's others, then the fleet's."""
    further = sorted(settings.further.items(), key=lambda item: item[1].scope)
    return {
        route: (
            route,
            *(name for name, policy in further if {route, _ALL_ROUTES} & {*policy.routes}),
        )
        for route in settings.route_classes
    }


def _key_ring(
    keys: Mapping[str, KeySettings], secret: SecretStr | None
) -> tuple[KeyRing, list[str]]:
    if not keys:
        return KeyRing(), []
    if secret is None:
        return KeyRing(), [
            "limits.keys: API keys need admin.key_secret (variable TOLLGATE_ADMIN__KEY_SECRET),"
            " the secret their hashes were made under"
        ]
    key_hash = KeyHash(secret.get_secret_value())
    names: dict[bytes, str] = {}
    faults = []
    for name, key in keys.items():
        fingerprint, _, digest = key.hash.partition(".")
        known = names.setdefault(bytes.fromhex(digest), name)
        if name == UNKNOWN_KEY:
            faults.append(f"limits.keys.{name}: this is what all unknown keys are counted as")
        if fingerprint != key_hash.fingerprint:
            faults.append(
                f"limits.keys.{name}.hash: was made under another secret than"
                " TOLLGATE_ADMIN__KEY_SECRET"
            )
        if known != name:
            faults.append(f"limits.keys.{name}.hash: is the same as that of limits.keys.{known}")
    return KeyRing(key_hash, names), faults


def _list_faults(settings: LimitSettings) -> Iterator[str]:
    for title, listed in (("allow", settings.allow), ("deny", settings.deny)):
        for key in listed.keys:
            if key not in settings.keys:
                yield f"limits.{title}.keys: there is no key {key}"
    for kind in ("networks", "keys"):
        for entry in set(getattr(settings.allow, kind)) & set(getattr(settings.deny, kind)):
            yield f"limits.allow.{kind}: {entry} is on the deny list too"


def _listed(settings: ListSettings) -> Listed:
    return Listed(Networks(settings.networks), frozenset(settings.keys))
