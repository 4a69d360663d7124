"""What this worker has counted, read back from its own registry; for who shows it elsewhere.

It goes by the names of the metrics, which are what they promise to keep (docs/metrics.md), and so
knows nothing of how they are counted.
"""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry
from prometheus_client.samples import Sample

from service.metrics.plain import HandOver


def read(registry: CollectorRegistry, names: Iterable[str]) -> list[Sample]:
    """The samples of these collectors; names as in the registry, a counter's without _total."""
    HandOver.of(registry).now()
    known = registry._names_to_collectors
    collectors = {known[name] for name in names if name in known}
    return [
        sample
        for collector in collectors
        for family in collector.collect()
        for sample in family.samples
    ]
