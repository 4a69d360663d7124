"""What the caches found, and where; read from their own plain numbers when metrics are collected.

A cache knows nothing of this: a look-up costs no call here. Names of caches are the only labels
beside the outcomes; keys never are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge

from service.metrics.plain import HandOver

if TYPE_CHECKING:
    from typing import Protocol

    class Local(Protocol):
        """As the cache has it, which stands above this package; so are the others."""

        @property
        def hits(self) -> int: ...
        @property
        def stale(self) -> int: ...
        @property
        def degraded(self) -> int: ...
        @property
        def misses(self) -> int: ...
        @property
        def entries(self) -> int: ...
        @property
        def unknowns(self) -> int: ...
        @property
        def bytes(self) -> int: ...

    class Fleet(Protocol):
        @property
        def hits(self) -> int: ...
        @property
        def stale(self) -> int: ...
        @property
        def misses(self) -> int: ...
        @property
        def errors(self) -> int: ...

    class Loads(Protocol):
        @property
        def misses(self) -> int: ...
        @property
        def refreshes(self) -> int: ...
        @property
        def errors(self) -> int: ...
        @property
        def refused(self) -> int: ...
        @property
        def waits(self) -> int: ...
        @property
        def void(self) -> int: ...

    class Statistics(Protocol):
        @property
        def local(self) -> Local: ...
        @property
        def fleet(self) -> Fleet: ...
        @property
        def loads(self) -> Loads: ...


class CacheCounts:
    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._hand_over = HandOver.of(registry)
        self._lookups = self._counter(
            "lookups",
            "Look-ups by tier. tier: local (the worker's own) or fleet (Redis). outcome: hit; stale"
            " (past its fresh age, given while it is loaded anew); miss; error (Redis away).",
            "tier",
            "outcome",
        )
        self._old = self._counter(
            "old_answers",
            "Values given past their fresh age. reason: stale (being loaded anew); degraded"
            " (that failed).",
            "reason",
        )
        self._loads = self._counter(
            "loads",
            "Values read from the database. cause: miss (nobody had it) or refresh.",
            "cause",
        )
        self._failures = self._counter(
            "load_failures",
            "Loads without use. reason: error (the database failed); refused (no place to load"
            " became free in time); void (changed while it was loaded).",
            "reason",
        )
        self._waits = self._counter("waits", "Misses that waited for another worker's load.")
        self._entries = self._gauge(
            "entries",
            "Entries in the workers' own tiers, all workers of the replica together. kind: value,"
            " or unknown (known not to exist).",
            "kind",
        )
        self._bytes = self._gauge(
            "bytes",
            "Memory of the workers' own tiers in bytes, all workers of the replica together.",
        )

    def watch(self, name: str, statistics: Callable[[], Statistics]) -> None:
        """Show these numbers from now on; ``statistics`` is asked once per collection."""
        known: dict[Counter, int] = {}

        def hand_over() -> None:
            now = statistics()
            for counter, number in self._counted(name, now):
                if grown := number - known.get(counter, 0):
                    counter.inc(grown)
                    known[counter] = number
            self._entries.labels(name, "value").set(now.local.entries)
            self._entries.labels(name, "unknown").set(now.local.unknowns)
            self._bytes.labels(name).set(now.local.bytes)

        self._hand_over.add(hand_over)

    def _counted(self, name: str, now: Statistics) -> Iterator[tuple[Counter, int]]:
        local, fleet, loads = now.local, now.fleet, now.loads
        for tier, outcome, number in (
            ("local", "hit", local.hits),
            ("local", "miss", local.misses),
            ("fleet", "hit", fleet.hits),
            ("fleet", "stale", fleet.stale),
            ("fleet", "miss", fleet.misses),
            ("fleet", "error", fleet.errors),
        ):
            yield self._lookups.labels(name, tier, outcome), number
        yield self._old.labels(name, "stale"), local.stale - local.degraded
        yield self._old.labels(name, "degraded"), local.degraded
        yield self._loads.labels(name, "miss"), loads.misses
        yield self._loads.labels(name, "refresh"), loads.refreshes
        yield self._failures.labels(name, "error"), loads.errors
        yield self._failures.labels(name, "refused"), loads.refused
        yield self._failures.labels(name, "void"), loads.void
        yield self._waits.labels(name), loads.waits

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"tollgate_cache_{name}", text, ("cache", *labels), registry=self._registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(
            f"tollgate_cache_{name}",
            text,
            ("cache", *labels),
            registry=self._registry,
            multiprocess_mode="livesum",
        )
