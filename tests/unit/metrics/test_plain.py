"""Plain numbers show, once handed over, what prometheus_client would have counted itself."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from service.metrics.plain import HandOver, Spread, Tally


def shown(registry: CollectorRegistry) -> str:
    lines = generate_latest(registry).decode().splitlines()
    return "\n".join(line for line in lines if "_created" not in line)


@given(st.lists(st.floats(0, 100)))
def test_spread_shows_what_observe_would(values: list[float]) -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    spread = Spread(Histogram("seconds", "text", registry=ours))
    HandOver.of(ours).add(spread.hand_over)
    observed = Histogram("seconds", "text", registry=theirs)
    for value in values:
        spread.observe(value)
        observed.observe(value)
    HandOver.of(ours).now()
    assert shown(ours) == shown(theirs)


@pytest.mark.parametrize("bound", Histogram.DEFAULT_BUCKETS)
def test_a_bucket_holds_its_own_bound(bound: float) -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    spread = Spread(Histogram("seconds", "text", registry=ours))
    spread.observe(bound)
    spread.hand_over()
    Histogram("seconds", "text", registry=theirs).observe(bound)
    assert shown(ours) == shown(theirs)


def test_collecting_hands_over_and_counts_nothing_twice() -> None:
    registry = CollectorRegistry()
    hand_over = HandOver.of(registry)
    tally = Tally(Counter("things", "text", ("kind",), registry=registry))
    hand_over.add(tally.hand_over)
    for _ in range(3):
        tally.grown["odd",] += 1
        shown(registry)
    assert 'things_total{kind="odd"} 3.0' in shown(registry)


def test_a_registry_has_one_hand_over() -> None:
    registry = CollectorRegistry()
    assert HandOver.of(registry) is HandOver.of(registry)
    assert HandOver.of(CollectorRegistry()) is not HandOver.of(registry)
