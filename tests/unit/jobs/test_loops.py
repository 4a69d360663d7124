"""A loop turns, wakes, survives failures, and stops."""

from __future__ import annotations

import asyncio

import pytest
from structlog.testing import capture_logs

from service.errors import DatabaseUnavailable
from service.jobs.loops import Loop
from tests.support.waiting import until

NEVER_S = 3600.0


async def test_wake_ticks_before_the_pause_is_over() -> None:
    ticked = asyncio.Queue[int]()

    async def tick() -> bool:
        ticked.put_nowait(1)
        return False

    loop = Loop("test", tick, interval_s=NEVER_S)
    loop.start()
    await asyncio.wait_for(ticked.get(), 5)
    loop.wake()
    await asyncio.wait_for(ticked.get(), 5)
    await loop.stop()


async def test_ticks_again_at_once_while_there_is_more() -> None:
    left, done = [3], asyncio.Event()

    async def tick() -> bool:
        left[0] -= 1
        if left[0] == 0:
            done.set()
        return left[0] > 0

    loop = Loop("test", tick, interval_s=NEVER_S)
    loop.start()
    await asyncio.wait_for(done.wait(), 5)
    await loop.stop()
    assert left == [0]


@pytest.mark.parametrize("error", [DatabaseUnavailable(), ZeroDivisionError()])
async def test_goes_on_after_a_failure_and_says_so(error: Exception) -> None:
    failures, recovered = iter([error]), asyncio.Event()

    async def tick() -> bool:
        if failure := next(failures, None):
            raise failure
        recovered.set()
        return False

    loop = Loop("test", tick, interval_s=0.01)
    with capture_logs() as lines:
        loop.start()
        await asyncio.wait_for(recovered.wait(), 5)
        await asyncio.sleep(0)
        await loop.stop()
    assert [line["event"] for line in lines] == [
        "loop_failed" if isinstance(error, DatabaseUnavailable) else "loop_crashed",
        "loop_recovered",
    ]


async def test_an_outage_is_logged_once_not_at_every_tick() -> None:
    ticks = asyncio.Queue[int]()

    async def tick() -> bool:
        ticks.put_nowait(1)
        raise DatabaseUnavailable

    loop = Loop("test", tick, interval_s=0.001)
    with capture_logs() as lines:
        loop.start()
        for _ in range(4):
            await asyncio.wait_for(ticks.get(), 5)
        await loop.stop()
    assert [line["event"] for line in lines] == ["loop_failed"]


async def test_what_must_not_wait_is_tried_again_soon_however_rarely_it_is_done() -> None:
    ticks = asyncio.Queue[int]()

    async def tick() -> bool:
        ticks.put_nowait(1)
        if ticks.qsize() < 3:
            raise DatabaseUnavailable
        return False

    loop = Loop("test", tick, interval_s=NEVER_S, most_s=0.01)
    loop.start()
    await until(lambda: ticks.qsize() == 3)
    assert repr(loop) == "<Loop test turning>"
    await loop.stop()


async def test_stop_ends_a_tick_in_hand() -> None:
    began, ended = asyncio.Event(), asyncio.Event()

    async def tick() -> bool:
        began.set()
        try:
            await asyncio.sleep(NEVER_S)
        finally:
            ended.set()
        return False

    loop = Loop("test", tick, interval_s=NEVER_S)
    loop.start()
    await asyncio.wait_for(began.wait(), 5)
    await loop.stop()
    assert ended.is_set()
    assert repr(loop) == "<Loop test stopped>"
