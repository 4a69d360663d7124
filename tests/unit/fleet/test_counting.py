"""What is told of a worker is what its own metrics say, by route class, over a short window."""

from __future__ import annotations

import time

import pytest
from prometheus_client import CollectorRegistry

from service.fleet import counting
from service.fleet.counting import WINDOW_S, Counting, numbers_of
from service.fleet.models import BOUNDS_S
from service.metrics import HttpCounts, Metrics

CLASSES = {"/flows": "flows", "/{flow}/status": "status", "/status": "status", "/livez": None}


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


def answered(http: HttpCounts, path: str, status: int, seconds: float = 0.0) -> None:

    route = http.of("GET", "http", path)
    route.begun += 1
    route.ended(status, time.monotonic() - seconds)


def test_every_metric_that_is_read_is_there(registry: CollectorRegistry) -> None:
    Metrics(registry).census.jobs({"running": (1, 2.0)})
    HttpCounts(registry)
    assert set(counting.NAMES) <= set(registry._names_to_collectors)


def test_rates_are_by_route_class_and_status(registry: CollectorRegistry) -> None:
    metrics, http, clock = Metrics(registry), HttpCounts(registry), Clock()
    looking = Counting(registry, CLASSES, clock=clock)
    answered(http, "/flows", 200)  # before the window
    looking.look()
    for path, status, times in (
        ("/flows", 200, 10), ("/flows", 429, 4), ("/{flow}/status", 200, 6), ("/status", 304, 2),
        ("__not_matched__", 404, 2), ("/livez", 200, 2),
    ):  # fmt: skip
        for _ in range(times):
            answered(http, path, status)
    metrics.payment_calls.labels("create", "ok").inc(3)
    metrics.payment_calls.labels("find", "ok").inc(1)
    clock.now_s += 2.0
    counted = looking.look()
    window_s, rates = looking.window()
    numbers = numbers_of(rates)
    assert window_s == 2.0
    assert counted.requests == 27
    assert numbers.traffic == {
        "flows": {"2xx": 5.0, "429": 2.0},
        "status": {"2xx": 3.0, "3xx": 1.0},
        "other": {"4xx": 1.0, "2xx": 1.0},
    }
    assert numbers.payments == {"ok": 2.0}


def test_times_go_into_the_buckets_they_belong_to(registry: CollectorRegistry) -> None:
    http, clock = HttpCounts(registry), Clock()
    Metrics(registry)
    looking = Counting(registry, CLASSES, clock=clock)
    looking.look()
    for seconds in (0.2, 0.2, 3.0, 100.0):
        answered(http, "/flows", 200, seconds)
    clock.now_s += 1.0
    looking.look()
    found = numbers_of(looking.window()[1]).seconds["flows"]
    assert len(found) == len(BOUNDS_S) + 1
    assert sum(found) == pytest.approx(4)
    above = {bound: sum(found[i + 1 :]) for i, bound in enumerate(BOUNDS_S)}
    assert (above[0.1], above[0.25], above[5.0], above[10.0]) == (4, 2, 1, 1)


def test_window_moves_on_and_forgets(registry: CollectorRegistry) -> None:
    http, clock = HttpCounts(registry), Clock()
    Metrics(registry)
    looking = Counting(registry, CLASSES, clock=clock)
    looking.look()
    answered(http, "/flows", 200)
    for _ in range(10):
        clock.now_s += 2.0
        looking.look()
    window_s, rates = looking.window()
    assert WINDOW_S <= window_s < WINDOW_S + 2.0
    assert not numbers_of(rates).traffic
    assert len(looking._history) <= WINDOW_S / 2 + 2


def test_before_the_second_look_there_is_nothing_to_tell(registry: CollectorRegistry) -> None:
    Metrics(registry)
    HttpCounts(registry)
    looking = Counting(registry, CLASSES, clock=Clock())
    looking.look()
    assert looking.window() == (0.0, {})


def test_jobs_are_told_only_by_who_counts_them(registry: CollectorRegistry) -> None:
    metrics = Metrics(registry)
    HttpCounts(registry)
    looking = Counting(registry, CLASSES, clock=Clock())
    assert looking.look().jobs == {}
    metrics.census.jobs({"running": (4, 1.0)})
    assert looking.look().jobs == {"running": 4}
