"""This worker's share of every limit while Redis is away.

Each of N live workers grants rate / N, beginning with an empty bucket, so the fleet together
admits at most rate × time of the outage: less than a full bucket could have given. A burst of
less than N cannot be divided further than one token a worker; the rate still holds.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence

from service.admission.bucket import Bucket, Taken
from service.admission.models import Charge, Decision, LimitState, limit_state
from service.errors import StoreUnavailable

#: Bounds the memory an attacker with many addresses can take (about 3 MB).
MOST_BUCKETS = 10_000


class LocalShare:
    """Decides for one worker; ``reset`` when Redis answers again."""

    def __init__(
        self, *, workers: int, clock_us: Callable[[], int] = lambda: time.monotonic_ns() // 1000
    ) -> None:
        self._workers = max(1, workers)
        self._clock_us = clock_us
        # By bucket: the instant from which on it has filled. Unlike an arrival time it does not
        # depend on the bucket's size, which is another for a large cost.
        self._filling_since_us: OrderedDict[tuple[str, str], int] = OrderedDict()
        self._empty_at_us: int | None = None

    @property
    def active(self) -> bool:
        """Has this decided anything since the last reset?"""
        return self._empty_at_us is not None

    @property
    def workers(self) -> int:
        """Among how many workers the limits are divided."""
        return self._workers

    def divide_by(self, workers: int) -> None:
        self._workers = max(1, workers)

    def reset(self) -> None:
        """Redis decides again; the next outage begins with empty buckets."""
        self._filling_since_us.clear()
        self._empty_at_us = None

    def take(self, charges: Sequence[Charge]) -> Decision:
        """All or nothing, like the script; raises StoreUnavailable under a ``closed`` policy."""
        for charge in charges:
            if charge.policy.on_outage == "closed" and not charge.policy.shadow:
                raise StoreUnavailable(
                    f"The limit {charge.policy.name} cannot be checked at the moment.",
                    retry_after_s=1.0,
                )
        now_us = self._clock_us()
        if self._empty_at_us is None:
            self._empty_at_us = now_us
        attempts = [(charge, *self._attempt(charge, now_us)) for charge in charges]
        allowed = all(taken.fits or charge.policy.shadow for charge, _, taken in attempts)
        if allowed:
            for charge, share, taken in attempts:
                if taken.fits and charge.policy.on_outage != "open":
                    self._keep(charge, taken.tat_us - share.capacity_us)
        states = tuple(
            _state(charge, share, taken, now_us, charged=allowed)
            for charge, share, taken in attempts
        )
        return Decision(allowed=allowed, states=states, degraded=True)

    def _attempt(self, charge: Charge, now_us: int) -> tuple[Bucket, Taken]:
        policy = charge.policy
        if policy.on_outage == "open":
            return policy.bucket, Taken(now_us, True)
        share = Bucket(
            policy.emission_interval_us * self._workers,
            max(charge.cost, policy.burst // self._workers),
        )
        since_us = self._filling_since_us.get(_key(charge), self._empty_at_us or now_us)
        return share, share.take(since_us + share.capacity_us, now_us, charge.cost)

    def _keep(self, charge: Charge, filling_since_us: int) -> None:
        key = _key(charge)
        self._filling_since_us[key] = filling_since_us
        self._filling_since_us.move_to_end(key)
        if len(self._filling_since_us) > MOST_BUCKETS:
            _, forgotten_us = self._filling_since_us.popitem(last=False)
            # Whoever is unknown from now on has at most what the forgotten one had.
            self._empty_at_us = max(self._empty_at_us or 0, forgotten_us)

    def __repr__(self) -> str:
        state = "active" if self.active else "idle"
        return f"<LocalShare 1/{self._workers} {state} buckets={len(self._filling_since_us)}>"


def _key(charge: Charge) -> tuple[str, str]:
    return charge.policy.name, str(charge.subject)


def _state(
    charge: Charge, share: Bucket, taken: Taken, now_us: int, *, charged: bool
) -> LimitState:
    """What was reserved for a request that another limit denied is not counted as gone."""
    tat_us = taken.tat_us
    if taken.fits and not charged and charge.policy.on_outage != "open":
        tat_us -= charge.cost * share.emission_interval_us
    return limit_state(charge, share, tat_us, now_us, fits=taken.fits)
