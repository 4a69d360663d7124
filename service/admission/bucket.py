"""Token-bucket arithmetic in GCRA form: pure, in integers, and the oracle for take.lua.

A bucket is one integer, its theoretical arrival time (TAT) in µs: the instant at which it will be
full. ``burst`` tokens fit in; one token returns every emission interval. For every interval of
time, at most ``burst + time / emission interval`` tokens are taken.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Taken:
    """The TAT after an attempt, and whether there was room for it."""

    tat_us: int
    fits: bool


@dataclass(frozen=True, slots=True)
class Bucket:
    """The two constants of a bucket; its state is handed in and out."""

    emission_interval_us: int
    burst: int

    @property
    def capacity_us(self) -> int:
        """The time an empty bucket takes to fill."""
        return self.emission_interval_us * self.burst

    def current(self, tat_us: int | None, now_us: int) -> int:
        """A stored TAT as it counts now: never below full.

        It may be beyond empty, after a lowered burst or a clock set back. That is left as it is:
        pulling it in would give tokens to workers that still know the larger burst.
        """
        return now_us if tat_us is None else max(tat_us, now_us)

    def take(self, tat_us: int | None, now_us: int, cost: int) -> Taken:
        """Take ``cost`` tokens if they are there, else change nothing."""
        current_us = self.current(tat_us, now_us)
        charged_us = current_us + cost * self.emission_interval_us
        if charged_us - self.capacity_us <= now_us:
            return Taken(charged_us, True)
        return Taken(current_us, False)

    def refund(self, tat_us: int | None, now_us: int, cost: int) -> int:
        """The TAT after ``cost`` tokens were given back; more than full is full."""
        return self.current((tat_us or 0) - cost * self.emission_interval_us, now_us)

    def remaining(self, tat_us: int, now_us: int) -> int:
        """Whole tokens left."""
        left_us = self.capacity_us - max(0, tat_us - now_us)
        return max(0, left_us) // self.emission_interval_us

    def wait_us(self, tat_us: int, now_us: int, cost: int) -> int:
        """Until ``cost`` tokens are there; 0 if they are."""
        charged_us = max(tat_us, now_us) + cost * self.emission_interval_us
        return max(0, charged_us - self.capacity_us - now_us)

    def refill_us(self, tat_us: int, now_us: int) -> int:
        """Until the bucket is full."""
        return max(0, tat_us - now_us)
