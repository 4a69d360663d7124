"""Counts as plain numbers, handed over to prometheus_client when it collects.

Reason: ``counter.labels(...).inc()`` looks a child up, takes a lock and, where workers share a
directory, writes into a mapped file: 5 µs each and more, several for one request. A plain number
is 0.1 µs. In exchange what a worker counted shows up to ``HAND_OVER_INTERVAL_S`` later on a page
another worker renders, and a worker that is killed loses that much.

Leans on private parts of prometheus_client 0.26: a histogram's ``_buckets`` and ``_sum``, and the
registry's own list. ``tests/unit/metrics`` compares with what ``observe`` would have shown.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Counter, Histogram, Metric
from prometheus_client.registry import Collector

HAND_OVER_INTERVAL_S = 1.0


class HandOver(Collector):
    """Everything of one registry that waits to be handed over; it does so when collected."""

    def __init__(self) -> None:
        self._waiting: list[Callable[[], None]] = []

    @classmethod
    def of(cls, registry: CollectorRegistry) -> HandOver:
        """The one of this registry: asked for first, it is also collected first."""
        for collector in registry._collector_to_names:
            if isinstance(collector, cls):
                return collector
        made = cls()
        registry.register(made)
        return made

    def add(self, hand_over: Callable[[], None]) -> None:
        self._waiting.append(hand_over)

    def now(self) -> None:
        for hand_over in self._waiting:
            hand_over()

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterable[Metric]:
        self.now()
        return ()


class Tally:
    """What a counter has grown by, by its label values in their order."""

    __slots__ = ("_counter", "grown")

    def __init__(self, counter: Counter) -> None:
        self._counter = counter
        self.grown: defaultdict[tuple[str, ...], int] = defaultdict(int)

    def hand_over(self) -> None:
        for labels, number in self.grown.items():
            (self._counter.labels(*labels) if labels else self._counter).inc(number)
        self.grown.clear()


class Spread:
    """What a histogram (or one child of it) has seen.

    ``coarser`` is another one that is to see the same; all its bounds are bounds of the first.
    """

    __slots__ = ("_bounds", "_numbers", "_shown", "_sum")

    def __init__(self, histogram: Histogram, *, coarser: Histogram | None = None) -> None:
        self._bounds = histogram._upper_bounds
        self._numbers = [0] * len(self._bounds)
        self._sum = 0.0
        #: Each with the place of each of our bounds among its own.
        self._shown = [
            (shown, [bisect_left(shown._upper_bounds, bound) for bound in self._bounds])
            for shown in (histogram, coarser)
            if shown is not None
        ]

    def observe(self, value: float) -> None:
        self._numbers[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def hand_over(self) -> None:
        for index, number in enumerate(self._numbers):
            if number:
                for histogram, places in self._shown:
                    histogram._buckets[places[index]].inc(number)
                self._numbers[index] = 0
        for histogram, _ in self._shown:
            histogram._sum.inc(self._sum)
        self._sum = 0.0
