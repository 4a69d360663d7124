"""What holds for whom: policies, API keys, tiers and lists of one version, as one frozen value."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from service.admission.api_keys import KeyRing
from service.admission.models import Charge, Policy, Subject
from service.admission.networks import Networks

#: Rulings kept ready; more clients than this at once only cost the building of theirs again.
MOST_RULINGS = 4096
#: Counts all keys that are not known together; never the name of one that is.
UNKNOWN_KEY = "unknown"


@dataclass(frozen=True, slots=True)
class Client:
    """Who is asking: the address, for people; the principal that is counted; its key's name.

    ``origin`` is set where strangers to each other are counted as one principal.
    """

    address: str
    principal: str
    key: str | None = None
    origin: str | None = None

    @property
    def owner(self) -> str:
        """Whose things these are (idempotency keys): never shared with a stranger."""
        return self.origin or self.principal


@dataclass(frozen=True, slots=True)
class Ruling:
    """What a request is charged before it may come in; nothing for those on the allow list."""

    charges: tuple[Charge, ...] = ()
    #: On the deny list: not to be let in at all.
    refused: bool = False


@dataclass(frozen=True, slots=True)
class Listed:
    """Clients by network and by the name of their key."""

    networks: Networks = field(default_factory=Networks)
    keys: frozenset[str] = frozenset()

    def holds(self, address: str, key: str | None) -> bool:
        return (key is not None and key in self.keys) or address in self.networks

    def __bool__(self) -> bool:
        return bool(self.networks or self.keys)


@dataclass(frozen=True, slots=True)
class Rulebook:
    """``judge`` is the one question asked of it on every request: it answers from memory.

    ``routes`` holds, for each route class, the names of its policies, the clients' before the
    fleet's; ``tiers`` the policies that replace others for the keys of a tier.
    """

    version: str
    policies: Mapping[str, Policy]
    routes: Mapping[str, tuple[str, ...]]
    keys: KeyRing = field(default_factory=KeyRing)
    tier_of_key: Mapping[str, str] = field(default_factory=dict)
    tiers: Mapping[str, Mapping[str, Policy]] = field(default_factory=dict)
    allow: Listed = Listed()
    deny: Listed = Listed()
    _judge: Callable[[str, str, str, str | None], Ruling] = field(
        init=False, repr=False, compare=False
    )
    _by_address: bool = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_judge", lru_cache(MOST_RULINGS)(self._ruling))
        by_address = bool(self.allow.networks or self.deny.networks)
        object.__setattr__(self, "_by_address", by_address)

    def judge(self, route_class: str, client: Client) -> Ruling:
        """What a request of ``client`` to a route of this class is charged."""
        address = client.address if self._by_address else ""
        return self._judge(route_class, client.principal, address, client.key)

    def policies_for(self, key: str | None) -> Mapping[str, Policy]:
        """All policies as they are for the bearer of this key."""
        tier = self.tier_of_key.get(key) if key is not None else None
        return {**self.policies, **self.tiers[tier]} if tier is not None else self.policies

    def _ruling(self, route_class: str, principal: str, address: str, key: str | None) -> Ruling:
        if self.deny.holds(address, key):
            return Ruling(refused=True)
        if self.allow.holds(address, key):
            return Ruling()
        policies = self.policies_for(key)
        return Ruling(tuple(charge(policies[name], principal) for name in self.routes[route_class]))


def charge(policy: Policy, principal: str) -> Charge:
    """One request under ``policy``: counted for its client, or for all of them together."""
    subject = Subject("client", principal) if policy.scope == "client" else Subject("fleet")
    return Charge(policy, subject, policy.cost)
