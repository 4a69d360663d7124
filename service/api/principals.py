"""One principal's buckets, named as operators name it: looked into, and filled again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from service.admission.networks import parse_address
from service.admission.rulebook import UNKNOWN_KEY, Rulebook, charge
from service.api.identity import IPV6_CLIENT_BITS, principal_of
from service.errors import ConfigurationError

if TYPE_CHECKING:
    from service.admission.limiter import Limiter
    from service.admission.models import Decision, Policy
    from service.admission.published import PublishedLimits

FLEET = "fleet"


@dataclass(frozen=True, slots=True)
class Principal:
    """Whose buckets: a client's, or with ``fleet`` those of all clients together."""

    text: str
    key: str | None = None

    def policies(self, rulebook: Rulebook) -> list[Policy]:
        scope = "fleet" if self.text == FLEET else "client"
        return [p for p in rulebook.policies_for(self.key).values() if p.scope == scope]


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


async def peek(limiter: Limiter, principal: Principal, rulebook: Rulebook) -> Decision:
    """What is left in each bucket; changes nothing. Raises StoreUnavailable."""
    charges = [charge(policy, principal.text) for policy in principal.policies(rulebook)]
    return await limiter.peek(charges)


async def reset(
    limiter: Limiter,
    published: PublishedLimits,
    principal: Principal,
    only: str | None,
    *,
    rulebook: Rulebook,
    author: str,
    reason: str = "",
) -> list[tuple[str, bool]]:
    """Fill the buckets, all or that of one policy, and note who did it.

    Returns the policies, and whether something was missing there. Raises ConfigurationError for a
    policy that does not count this principal, StoreUnavailable while Redis is away.
    """
    counted = principal.policies(rulebook)
    policies = [policy for policy in counted if only in (None, policy.name)]
    if not policies:
        names = ", ".join(policy.name for policy in counted) or "none"
        raise ConfigurationError(
            f"{principal.text} is not counted under a policy {only}; it is under: {names}"
        )
    done = []
    for policy in policies:
        subject = charge(policy, principal.text).subject
        done.append((policy.name, await limiter.reset(policy, subject)))
    what = f"{principal.text} {only or 'all policies'}"
    await published.note("reset", f"{what}: {reason}" if reason else what, author=author)
    return done
