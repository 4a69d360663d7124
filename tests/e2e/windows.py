"""The promise as a check: no window of time may hold more admissions than burst + rate × window."""

from __future__ import annotations

from bisect import insort
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

SECOND_US = 1_000_000


@dataclass(frozen=True, slots=True)
class Limit:
    tokens: int
    period_s: int
    burst: int

    def __str__(self) -> str:
        return f"{self.tokens}/{self.period_s}s,burst={self.burst}"

    def most_in(self, seconds: float) -> float:
        return self.burst + self.tokens * seconds / self.period_s


@dataclass(frozen=True, slots=True)
class Span:
    """One admission; it was decided at some instant between these two."""

    since_us: int
    until_us: int

    @property
    def exact(self) -> bool:
        return self.since_us == self.until_us


def worst_excess(spans: Sequence[Span], limit: Limit) -> Fraction:
    """Tokens by which the worst window is overdrawn for certain; zero or less: none is.

    Over every window, not the whole: admissions that must have been inside of it, minus
    (burst + rate × its length). Where the instants are known, nothing is in doubt.
    """
    if all(span.exact for span in spans):
        return _among_instants(sorted(span.since_us for span in spans), limit)
    return _among_spans(sorted(spans, key=lambda span: span.until_us), limit)


def _among_instants(times_us: Sequence[int], limit: Limit) -> Fraction:
    """Each admission lifts a level that sinks with the rate: the highest climb is the answer."""
    token_us, worst, least = limit.period_s * SECOND_US, 0, 0
    for index, time_us in enumerate(times_us):
        level = index * token_us - limit.tokens * time_us
        least = level if index == 0 else min(least, level)
        worst = max(worst, level + token_us - least)
    return Fraction(worst, token_us) - limit.burst


def _among_spans(spans: Sequence[Span], limit: Limit) -> Fraction:
    """Windows from any span's beginning to any span's end, counting the spans inside."""
    token_us, worst = limit.period_s * SECOND_US, 0
    begun_us: list[int] = []
    for span in spans:
        insort(begun_us, span.since_us)
        inside = 0
        for since_us in reversed(begun_us):
            inside += token_us
            worst = max(worst, inside - limit.tokens * (span.until_us - since_us))
    return Fraction(worst, token_us) - limit.burst
