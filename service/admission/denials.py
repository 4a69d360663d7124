"""Denial from knowledge: while Redis would certainly say no, it is not asked.

What Redis last said of a bucket, its arrival time, is kept on this worker's monotonic clock as if
Redis had said it at the moment of sending. It was later, so a denial from here ends no later than
Redis's own; and an arrival time only ever grows, but by a refund, a reset or the loss of data. For
those an entry is believed for a second only. So nothing is denied that Redis would admit but for
that second, and nothing is ever admitted from here. One entry serves every cost and every policy of
its name: a changed policy is judged by its own numbers at once.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from service.admission.models import Charge, Decision, LimitState

#: Bounds what an attacker with many addresses can take: about 20 MB.
MOST_ENTRIES = 50_000
#: A reset, a refund and a loss of data are seen by every worker after this at the latest.
BELIEVED_US = 1_000_000


class Heard(NamedTuple):
    """An arrival time on the local clock, as heard by a call sent and answered then."""

    arrival_us: int
    sent_us: int
    received_us: int


class Denials:
    """``hear`` what Redis says, ``deny`` what it would deny again."""

    def __init__(
        self, *, clock_us: Callable[[], int] = lambda: time.monotonic_ns() // 1000
    ) -> None:
        self._clock_us = clock_us
        self._heard: OrderedDict[str, Heard] = OrderedDict()

    def __len__(self) -> int:
        return len(self._heard)

    def hear(self, key: str, ahead_us: int, sent_us: int, received_us: int) -> None:
        """``key`` arrives ``ahead_us`` after the server's time of a call."""
        heard = self._heard
        heard[key] = Heard(sent_us + ahead_us, sent_us, received_us)
        heard.move_to_end(key)
        if len(heard) > MOST_ENTRIES:
            heard.popitem(last=False)

    def forget(self, key: str) -> None:
        """The bucket was given tokens from here."""
        self._heard.pop(key, None)

    def deny(self, charges: Sequence[Charge]) -> Decision | None:
        """The denial Redis would send at this moment; None if it may have room."""
        now_us = self._clock_us()
        for charge in charges:
            # A shadow policy's bucket is never heard of here.
            heard = self._heard.get(charge.key)
            if (
                heard is not None
                and heard.arrival_us - now_us > charge.headroom_us
                and now_us - heard.sent_us < BELIEVED_US
            ):
                return self._denial(charges, now_us)
        return None

    def ahead_us(self, key: str) -> int:
        """By how much the last known arrival time is ahead of now, however old; 0 if unknown."""
        heard = self._heard.get(key)
        return 0 if heard is None else max(0, heard.arrival_us - self._clock_us())

    def not_full(self) -> Iterator[str]:
        """The buckets that are not full again yet, as far as is known."""
        now_us = self._clock_us()
        return iter([key for key, heard in self._heard.items() if heard.arrival_us > now_us])

    def _denial(self, charges: Sequence[Charge], now_us: int) -> Decision:
        states = []
        for charge in charges:
            heard = self._heard.get(charge.key)
            if heard is None:
                continue
            arrival_us, sent_us, received_us = heard
            if now_us - sent_us >= BELIEVED_US:
                continue
            ahead_us = arrival_us - now_us if arrival_us > now_us else 0
            # Told as if Redis had spoken at the moment of the answer: whoever waits as long as he
            # is told is not a round trip too early.
            late_us = received_us - sent_us
            wait_us = ahead_us - charge.headroom_us
            left_us = charge.capacity_us - ahead_us
            states.append(
                LimitState(
                    charge.policy,
                    left_us // charge.interval_us if left_us > 0 else 0,
                    -(-(wait_us + late_us) // 1000) if wait_us > 0 else 0,
                    -(-(ahead_us + late_us) // 1000),
                )
            )
        return Decision(False, tuple(states), False, 0, True)

    def __repr__(self) -> str:
        return f"<Denials buckets={len(self._heard)}>"
