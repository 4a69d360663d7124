"""This worker's share of every limit while Redis is away.

Each of N live workers grants rate / N and burst / N, beginning with an empty bucket, so the fleet
together admits at most rate × time of the outage: less than a full bucket could have given. A burst
of fewer tokens than workers is held by as many of them as it has tokens, others for each bucket;
the rest deny. What is admitted is owed to Redis and kept until it has been charged there
(``settlement``).
"""

from __future__ import annotations

import time
import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from service.admission.bucket import Bucket, Taken
from service.admission.models import Charge, Decision, LimitState, Policy, limit_state
from service.errors import StoreUnavailable

#: Bounds the memory an attacker with many addresses can take (about 15 MB).
MOST_BUCKETS = 50_000
#: By then a lost reply is over, or it was an outage and the share has begun.
SHORT_WAIT_MS = 1000


@dataclass(frozen=True, slots=True)
class Place:
    """Which of how many live workers this one is, counted from 0."""

    number: int
    workers: int


@dataclass(slots=True)
class _Account:
    """One bucket of this worker: what it gave and when."""

    charge: Charge
    #: The instant from which on it has filled. Unlike an arrival time it does not depend on the
    #: bucket's size, which is another for a large cost.
    filling_since_us: int
    last_us: int
    #: Admitted and not yet charged in Redis, as time.
    owed_us: int = 0


@dataclass(frozen=True, slots=True)
class Debt:
    """What this worker admitted from one bucket without Redis, as time."""

    key: str
    owed_us: int
    capacity_us: int


class LocalShare:
    """Decides for one worker from ``begin`` until ``end``."""

    def __init__(
        self, *, clock_us: Callable[[], int] = lambda: time.monotonic_ns() // 1000
    ) -> None:
        self._clock_us = clock_us
        self._place = Place(0, 1)
        self._empty_at_us: int | None = None
        #: By last use, the oldest first.
        self._accounts: OrderedDict[str, _Account] = OrderedDict()

    @property
    def active(self) -> bool:
        return self._empty_at_us is not None

    def begin(self, place: Place, *, since_us: int | None = None) -> None:
        """The outage began at ``since_us``; the limits are divided like this until its end.

        A later heartbeat must not change the division: it would give tokens for time gone by.
        """
        self._place = place
        self._empty_at_us = self._clock_us() if since_us is None else since_us

    def end(self) -> None:
        """Redis decides again; the next outage begins with empty buckets."""
        self._accounts.clear()
        self._empty_at_us = None

    def take(self, charges: Sequence[Charge], *, redis_back: bool = False) -> Decision:
        """All or nothing, like the script. Raises StoreUnavailable under a ``closed`` policy.

        ``redis_back``: Redis is asked as well and charges for itself. Only the shares are then
        looked at, and nothing is owed.
        """
        if not redis_back:
            refuse_closed(charges)
        now_us = self._clock_us()
        attempts = [
            (charge, *self._attempt(charge, now_us))
            for charge in charges
            if not redis_back or charge.policy.on_outage == "local-share"
        ]
        allowed = all(taken.fits or charge.policy.shadow for charge, _, taken in attempts)
        if allowed:
            for charge, share, taken in attempts:
                if taken.fits and charge.policy.on_outage != "open":
                    self._keep(
                        charge, taken.tat_us - share.capacity_us, now_us, owes=not redis_back
                    )
        states = tuple(
            _state(charge, share, taken, now_us, charged=allowed)
            for charge, share, taken in attempts
        )
        return Decision(allowed=allowed, states=states, degraded=True)

    def owing(self) -> Iterator[Debt]:
        """What is to be settled: what would have returned by now in any case is not."""
        now_us = self._clock_us()
        for key, account in self._accounts.items():
            if account.owed_us and not self._is_full_again(account, now_us):
                yield Debt(key, account.owed_us, account.charge.policy.bucket.capacity_us)

    def settled(self, debt: Debt) -> None:
        account = self._accounts.get(debt.key)
        if account is not None:
            account.owed_us -= debt.owed_us

    def _attempt(self, charge: Charge, now_us: int) -> tuple[Bucket, Taken]:
        policy = charge.policy
        if policy.on_outage == "open":
            return policy.bucket, Taken(now_us, True)
        holders = self._holders(policy)
        share = Bucket(
            policy.emission_interval_us * holders, max(charge.cost, policy.burst // holders)
        )
        account = self._accounts.get(charge.key)
        if account is None and not (self._holds(charge, holders) and self._has_space(now_us)):
            return share, Taken(now_us + share.capacity_us, False)
        since_us = account.filling_since_us if account else self._empty_at_us or now_us
        return share, share.take(since_us + share.capacity_us, now_us, charge.cost)

    def _holders(self, policy: Policy) -> int:
        """How many workers have a share: each needs room for one request at least."""
        return max(1, min(self._place.workers, policy.burst // policy.cost))

    def _holds(self, charge: Charge, holders: int) -> bool:
        """Is this worker one of them? Every bucket begins to count at another worker."""
        place, workers = self._place.number, self._place.workers
        return (place + zlib.crc32(charge.key.encode())) % workers < holders

    def _has_space(self, now_us: int) -> bool:
        """Only what owes nothing is dropped: better to deny a newcomer than to forget a debt."""
        if len(self._accounts) < MOST_BUCKETS:
            return True
        key, oldest = next(iter(self._accounts.items()))
        if not self._is_full_again(oldest, now_us):
            return False
        del self._accounts[key]
        # Whoever is new here may be the one just forgotten: as if emptied when last used.
        self._empty_at_us = max(self._empty_at_us or 0, oldest.filling_since_us)
        return True

    def _is_full_again(self, account: _Account, now_us: int) -> bool:
        """Redis' bucket and this share have both had the time to fill since the last admission."""
        policy = account.charge.policy
        slower = max(policy.burst, self._holders(policy) * account.charge.cost)
        return now_us - account.last_us >= slower * policy.emission_interval_us

    def _keep(self, charge: Charge, filling_since_us: int, now_us: int, *, owes: bool) -> None:
        account = self._accounts.get(charge.key)
        if account is None:
            account = self._accounts[charge.key] = _Account(charge, filling_since_us, now_us)
        # The policy may be another one since.
        account.charge = charge
        account.filling_since_us = filling_since_us
        account.last_us = now_us
        if owes:
            account.owed_us += charge.price_us
        self._accounts.move_to_end(charge.key)

    def __repr__(self) -> str:
        state = "active" if self.active else "idle"
        return f"<LocalShare 1/{self._place.workers} {state} buckets={len(self._accounts)}>"


def refuse_closed(charges: Sequence[Charge]) -> None:
    """Raise StoreUnavailable where a policy admits nobody without Redis."""
    for charge in charges:
        if charge.policy.on_outage == "closed" and not charge.policy.shadow:
            raise StoreUnavailable(
                f"The limit {charge.policy.name} cannot be checked at the moment.",
                retry_after_s=SHORT_WAIT_MS / 1000,
            )


def unanswered(charges: Sequence[Charge]) -> Decision:
    """For the requests of a lost batch while Redis is not given up: a share that is still empty.

    A share that gave tokens here would have to be settled by the whole fleet before anyone trusts
    Redis again; one lost reply would cost every worker its limits. So a blip costs the requests in
    it a short wait, and nobody else anything.
    """
    refuse_closed(charges)
    states = []
    for charge in charges:
        policy = charge.policy
        if policy.on_outage == "open":
            states.append(LimitState(policy, policy.burst, 0, 0))
        else:
            refill_ms = policy.bucket.capacity_us // 1000
            states.append(LimitState(policy, 0, SHORT_WAIT_MS, refill_ms))
    decision = Decision(allowed=False, states=tuple(states), degraded=True)
    return decision if decision.violated else decision._replace(allowed=True)


def _state(
    charge: Charge, share: Bucket, taken: Taken, now_us: int, *, charged: bool
) -> LimitState:
    """What was reserved for a request that another limit denied is not counted as gone."""
    tat_us = taken.tat_us
    if taken.fits and not charged and charge.policy.on_outage != "open":
        tat_us -= charge.cost * share.emission_interval_us
    return limit_state(charge, share, tat_us, now_us, fits=taken.fits)
