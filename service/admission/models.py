"""The words of admission: policy, subject, charge, decision."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from service.admission.bucket import Bucket
from service.errors import ConfigurationError, CostAboveBurst
from service.store import keys

_SECOND_US = 1_000_000
#: The scripts count µs in doubles, exact below 2**53; a year keeps far away from that.
_LONGEST_FILL_US = 366 * 86_400 * _SECOND_US

OnOutage = Literal["local-share", "closed", "open"]
#: Who decides: the whole fleet through Redis; this worker while Redis is away; then, until the
#: outage is settled, both.
Mode = Literal["fleet", "settling", "away"]
SEVERITY: tuple[Mode, ...] = ("fleet", "settling", "away")


@dataclass(frozen=True, slots=True)
class Policy:
    """``tokens`` per ``period_s`` in the long run, ``burst`` at once; a request takes ``cost``.

    ``shadow`` policies are counted like any other and never deny. What every decision needs is
    worked out once, here.
    """

    name: str
    tokens: int
    period_s: int
    burst: int
    on_outage: OnOutage = "local-share"
    shadow: bool = False
    #: ``client``: a bucket for each principal; ``fleet``: one for all of them together.
    scope: Literal["client", "fleet"] = "client"
    cost: int = 1
    #: µs per token, rounded up, so that the rate is never above the configured one.
    emission_interval_us: int = field(init=False, repr=False, compare=False)
    bucket: Bucket = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.tokens < 1 or self.period_s < 1 or self.burst < 1:
            raise ConfigurationError(f"limits.{self.name}: rate and burst must be at least 1")
        if not 1 <= self.cost <= self.burst:
            raise ConfigurationError(
                f"limits.{self.name}: a cost of {self.cost} can never be paid from a burst of"
                f" {self.burst}"
            )
        interval_us = -(-self.period_s * _SECOND_US // self.tokens)
        object.__setattr__(self, "emission_interval_us", interval_us)
        object.__setattr__(self, "bucket", Bucket(interval_us, self.burst))
        if self.bucket.capacity_us > _LONGEST_FILL_US:
            raise ConfigurationError(
                f"limits.{self.name}: at {self.tokens} per {self.period_s} s a burst of"
                f" {self.burst} takes more than a year to return"
            )

    @property
    def requests(self) -> int:
        """How many requests a full bucket admits (``q`` of RateLimit-Policy)."""
        return self.burst // self.cost

    @property
    def window_s(self) -> int:
        """Seconds an empty bucket takes to fill (``w`` of RateLimit-Policy)."""
        return max(1, -(-self.burst * self.period_s // self.tokens))


@dataclass(frozen=True, slots=True)
class Subject:
    """Whom a policy counts: a ``client`` (its principal) or the whole ``fleet``."""

    kind: Literal["client", "fleet"]
    value: str = ""

    def __str__(self) -> str:
        return f"{self.kind}:{self.value}" if self.value else self.kind


@dataclass(frozen=True, slots=True)
class Charge:
    """``cost`` tokens of ``subject``'s bucket under ``policy``; raises CostAboveBurst.

    Made once for a policy and a principal and then used again: hash and key come for free.
    """

    policy: Policy
    subject: Subject
    cost: int = 1
    #: The bucket's key in Redis.
    key: str = field(init=False, repr=False, compare=False)
    #: The cost as time.
    price_us: int = field(init=False, repr=False, compare=False)
    #: An arrival time further ahead than this leaves no room for the cost.
    headroom_us: int = field(init=False, repr=False, compare=False)
    #: The policy's numbers, at hand where each decision is told.
    capacity_us: int = field(init=False, repr=False, compare=False)
    interval_us: int = field(init=False, repr=False, compare=False)
    _hash: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        policy = self.policy
        if not 1 <= self.cost <= policy.burst:
            raise CostAboveBurst(
                f"cost {self.cost} under policy {policy.name}: must be 1 to its burst,"
                f" {policy.burst}"
            )
        price_us = self.cost * policy.emission_interval_us
        key = keys.bucket(policy.name, str(self.subject), shadow=policy.shadow)
        object.__setattr__(self, "key", key)
        object.__setattr__(self, "price_us", price_us)
        object.__setattr__(self, "headroom_us", policy.bucket.capacity_us - price_us)
        object.__setattr__(self, "capacity_us", policy.bucket.capacity_us)
        object.__setattr__(self, "interval_us", policy.emission_interval_us)
        object.__setattr__(self, "_hash", hash((policy, self.subject, self.cost)))

    @property
    def terms(self) -> tuple[int, int, int]:
        """Price, capacity and whether on trial, as take.lua wants them."""
        return self.price_us, self.policy.bucket.capacity_us, int(self.policy.shadow)

    def __hash__(self) -> int:
        return self._hash


@dataclass(frozen=True, slots=True)
class LimiterStatus:
    """For operators. ``workers``: live ones in the fleet; ``known_buckets``: for local denials."""

    mode: Mode
    workers: int
    known_buckets: int


# Named tuples, not data classes: one of each is made for every request, at a quarter of the cost.


class LimitState(NamedTuple):
    """One bucket after a decision.

    ``wait_ms`` is 0 if it had room, else the time until the asked cost fits; ``refill_ms`` the
    time until it is full. Both rounded up.
    """

    policy: Policy
    remaining: int
    wait_ms: int
    refill_ms: int


class Decision(NamedTuple):
    """``degraded``: decided without Redis. ``decided_at_us``: server time, 0 if it is not known.

    ``local``: denied from what Redis last said; ``states`` then holds the known buckets alone.
    """

    allowed: bool
    states: tuple[LimitState, ...]
    degraded: bool = False
    decided_at_us: int = 0
    local: bool = False

    @property
    def violated(self) -> tuple[LimitState, ...]:
        """Every enforced limit that had no room, not only the first."""
        return tuple(s for s in self.states if s.wait_ms > 0 and not s.policy.shadow)

    @property
    def retry_after_s(self) -> int:
        """Whole seconds after which all violated limits have room; at least 1."""
        return max(1, math.ceil(max((s.wait_ms for s in self.violated), default=0) / 1000))


def limit_state(
    charge: Charge, bucket: Bucket, tat_us: int, now_us: int, *, fits: bool
) -> LimitState:
    """The bucket as it is after the decision that found (or did not find) room for ``charge``."""
    wait_us = 0 if fits else bucket.wait_us(tat_us, now_us, charge.cost)
    return LimitState(
        policy=charge.policy,
        remaining=bucket.remaining(tat_us, now_us),
        wait_ms=-(-wait_us // 1000),
        refill_ms=-(-bucket.refill_us(tat_us, now_us) // 1000),
    )
