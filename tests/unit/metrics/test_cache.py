"""What caches count, as the page shows it."""

from __future__ import annotations

from dataclasses import replace

from prometheus_client import CollectorRegistry, generate_latest

from service.cache.models import (
    CacheStatistics,
    FleetStatistics,
    LoadStatistics,
    LocalStatistics,
)
from service.metrics.cache import CacheCounts

SEEN = CacheStatistics(
    LocalStatistics(hits=1, stale=9, degraded=4, misses=2, entries=3, unknowns=5, bytes=600),
    FleetStatistics(hits=11, stale=12, misses=13, errors=14),
    LoadStatistics(misses=21, refreshes=22, errors=23, refused=24, waits=25, void=26),
)
SHOWN = {
    ("lookups_total", ("fleet", "error")): 14,
    ("lookups_total", ("fleet", "hit")): 11,
    ("lookups_total", ("fleet", "miss")): 13,
    ("lookups_total", ("fleet", "stale")): 12,
    ("lookups_total", ("local", "hit")): 1,
    ("lookups_total", ("local", "miss")): 2,
    ("old_answers_total", ("stale",)): 5,
    ("old_answers_total", ("degraded",)): 4,
    ("loads_total", ("miss",)): 21,
    ("loads_total", ("refresh",)): 22,
    ("load_failures_total", ("error",)): 23,
    ("load_failures_total", ("refused",)): 24,
    ("load_failures_total", ("void",)): 26,
    ("waits_total", ()): 25,
    ("entries", ("value",)): 3,
    ("entries", ("unknown",)): 5,
    ("bytes", ()): 600,
}


def page(registry: CollectorRegistry, cache: str) -> dict[tuple[str, tuple[str, ...]], float]:
    generate_latest(registry)
    found = {}
    for family in registry.collect():
        for sample in family.samples:
            labels = dict(sample.labels)
            if labels.pop("cache", None) == cache and not sample.name.endswith("_created"):
                name = sample.name.removeprefix("tollgate_cache_")
                by_tier = sorted(labels.items(), key=lambda label: label[0] != "tier")
                found[name, tuple(value for _, value in by_tier)] = sample.value
    return found


def test_every_number_of_a_cache_is_shown_once() -> None:
    registry = CollectorRegistry()
    CacheCounts(registry).watch("flow", lambda: SEEN)
    assert page(registry, "flow") == SHOWN
    assert page(registry, "flow") == SHOWN  # collected again, nothing has happened


def test_what_a_cache_counted_since_is_added_and_gauges_follow() -> None:
    registry, seen = CollectorRegistry(), SEEN
    counts = CacheCounts(registry)
    counts.watch("flow", lambda: seen)
    counts.watch("other", lambda: SEEN)
    page(registry, "flow")
    seen = replace(SEEN, local=replace(SEEN.local, hits=100, entries=0))
    shown = page(registry, "flow")
    assert shown["lookups_total", ("local", "hit")] == 100
    assert shown["entries", ("value",)] == 0
    assert page(registry, "other") == SHOWN
