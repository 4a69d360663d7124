"""What is read back is what a page of the same metrics would show."""

from __future__ import annotations

import random
import time

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge

from service.metrics import HttpCounts
from service.metrics.readout import Readout


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


def test_counters_and_gauges_are_as_collected(registry: CollectorRegistry) -> None:
    counter = Counter("things", "Things.", ["a", "b"], registry=registry)
    gauge = Gauge("level", "Level.", registry=registry)
    counter.labels("x", "y").inc(3)
    counter.labels("x", "z").inc(0.5)
    gauge.set(7)
    found = Readout(registry)
    assert list(found.values("things")) == [({"a": "x", "b": "y"}, 3), ({"a": "x", "b": "z"}, 0.5)]
    assert list(found.values("level")) == [({}, 7)]
    assert list(found.values("nosuch")) == []


def test_buckets_are_as_collected(registry: CollectorRegistry) -> None:
    http, numbers = HttpCounts(registry), random.Random(4)
    for _ in range(300):
        route = http.of("GET", "http", numbers.choice(("/flows", "/{flow}")))
        route.begun += 1
        route.ended(200, time.monotonic() - numbers.lognormvariate(-3, 2))
    found = Readout(registry)
    found.fresh()
    name = "aiohttp_request_duration_seconds"
    shown: dict[tuple[str, float], float] = {}
    for family in registry.collect():
        for sample in family.samples:
            if sample.name == f"{name}_bucket":
                shown[sample.labels["path_template"], float(sample.labels["le"])] = sample.value
    read: dict[tuple[str, float], float] = {}
    for labels, buckets in found.buckets(name):
        for bound in {le for _, le in shown}:
            below = sum(number for upper, number in buckets if upper <= bound)
            read[labels["path_template"], bound] = below
    assert read == shown
    assert sum(value for (_, le), value in shown.items() if le == float("inf")) == 300


def test_fresh_takes_what_waits_to_be_handed_over(registry: CollectorRegistry) -> None:
    http, found = HttpCounts(registry), Readout(registry)
    http.of("GET", "http", "/flows").ended(200, time.monotonic())
    assert sum(value for _, value in found.values("aiohttp_responses")) == 0
    found.fresh()
    assert sum(value for _, value in found.values("aiohttp_responses")) == 1
