"""What this worker has counted, read back from its own registry; for who shows it elsewhere.

It goes by the names of the metrics, which are what they promise to keep (docs/metrics.md), and so
knows nothing of how they are counted. Reading a worker's whole HTTP by ``collect`` makes thousands
of samples and holds its event loop up for tens of milliseconds; the numbers themselves are read in
one. Leans on private parts of prometheus_client 0.26: a metric's ``_metrics`` and ``_labelnames``,
a child's ``_value``, ``_buckets`` and ``_upper_bounds``. ``tests/unit/metrics`` compares with what
``collect`` shows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from prometheus_client import CollectorRegistry

from service.metrics.plain import HandOver

Labels = Mapping[str, str]


class Readout:
    """One registry; ``fresh`` brings it up to date, the others then read it."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def fresh(self) -> None:
        HandOver.of(self._registry).now()

    def values(self, name: str) -> Iterator[tuple[Labels, float]]:
        """Of each series of a counter or gauge (a counter's name without _total)."""
        for labels, child in self._children(name):
            yield labels, child._value.get()

    def buckets(self, name: str) -> Iterator[tuple[Labels, Sequence[tuple[float, float]]]]:
        """Of each series of a histogram: upper bounds, and how much fell between it and the last.

        What is empty is left out.
        """
        for labels, child in self._children(name):
            found = [
                (bound, number)
                for bound, bucket in zip(child._upper_bounds, child._buckets, strict=True)
                if (number := bucket.get())
            ]
            if found:
                yield labels, found

    def _children(self, name: str) -> Iterator[tuple[Labels, Any]]:
        metric: Any = self._registry._names_to_collectors.get(name)
        if metric is None:
            return
        names = metric._labelnames
        if not names:
            yield {}, metric
            return
        for values, child in list(metric._metrics.items()):
            yield dict(zip(names, values, strict=True)), child
