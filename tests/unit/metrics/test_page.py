"""Numbers are handed over by themselves, and none is lost at the end."""

from __future__ import annotations

import asyncio
import threading

import pytest
from prometheus_client import CollectorRegistry, Counter

from service.metrics import page
from service.metrics.page import handing_over, page_handler
from service.metrics.plain import HandOver, Tally
from service.metrics.worker import WorkerCounts
from tests.support.waiting import until


def shown(counter: Counter) -> float:
    """What is in the shared files: nobody collects here."""
    return float(counter._value.get())


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def counter(registry: CollectorRegistry) -> Counter:
    return Counter("things", "text", registry=registry)


@pytest.fixture
def tally(registry: CollectorRegistry, counter: Counter) -> Tally:
    made = Tally(counter)
    HandOver.of(registry).add(made.hand_over)
    return made


async def test_numbers_are_handed_over_now_and_then(
    monkeypatch: pytest.MonkeyPatch, registry: CollectorRegistry, counter: Counter, tally: Tally
) -> None:
    monkeypatch.setattr(page, "HAND_OVER_INTERVAL_S", 0.01)
    async with handing_over(registry), asyncio.timeout(10):
        tally.grown[()] += 2
        await until(lambda: shown(counter) >= 2)


async def test_the_end_leaves_nothing_behind(
    registry: CollectorRegistry, counter: Counter, tally: Tally
) -> None:
    async with handing_over(registry):
        tally.grown[()] += 3
    assert shown(counter) == 3


async def test_the_page_is_complete_whoever_keeps_its_numbers(
    registry: CollectorRegistry, tally: Tally
) -> None:
    tally.grown[()] += 4
    response = await page_handler(registry)(None)
    assert b"things_total 4.0" in response.body


async def test_numbers_are_never_handed_over_while_they_are_counted(
    registry: CollectorRegistry,
) -> None:
    """Where none are shared the page does it by itself; in a thread it would meet who counts."""
    threads: list[int] = []
    HandOver.of(registry).add(lambda: threads.append(threading.get_ident()))
    await page_handler(registry)(None)
    assert set(threads) == {threading.get_ident()}


async def test_a_worker_that_leaves_in_order_is_never_among_the_dead(
    registry: CollectorRegistry,
) -> None:
    """As the alert on dying workers counts them; whoever has stopped may take long to close."""
    worker = WorkerCounts(registry)

    def dead() -> float:
        values = {s.name: s.value for family in registry.collect() for s in family.samples}
        return float(
            values["tollgate_worker_starts_total"]
            - values["tollgate_worker_stops_total"]
            - values["tollgate_workers"]
        )

    async with handing_over(registry, worker):
        worker.started(version="1.0.0", workers=1)
        assert dead() == 0
    assert dead() == 0
