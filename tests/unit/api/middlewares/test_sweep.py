"""One timer for all deadlines: who is over is cancelled once, nobody else ever."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest

from service.api.middlewares import sweep as module
from service.api.middlewares.sweep import Sweep

NEVER_S = 60.0


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "INTERVAL_S", 0.01)


@pytest.fixture
async def sweep() -> Sweep:
    return Sweep(asyncio.get_running_loop())


async def watched(
    sweep: Sweep, seconds: float, work: Callable[[], Awaitable[object]], *, early: bool = False
) -> tuple[bool, bool]:
    """Was it cancelled inside? Did the sweep say that it was the one?"""
    cancelled = False
    task = sweep.watch(time.monotonic() + seconds, early=early)
    try:
        await work()
    except asyncio.CancelledError:
        cancelled = True
    finally:
        over = sweep.leave(task)
    return cancelled, over


async def test_who_is_over_is_cancelled_and_others_are_not(sweep: Sweep) -> None:
    late = [watched(sweep, 0.05, lambda: asyncio.sleep(NEVER_S)) for _ in range(3)]
    in_time = [watched(sweep, NEVER_S, lambda: asyncio.sleep(0.2)) for _ in range(3)]
    results = await asyncio.gather(*late, *in_time)
    assert results == [(True, True)] * 3 + [(False, False)] * 3


async def test_a_shortened_one_is_over_before_those_that_came_earlier(sweep: Sweep) -> None:
    usual = asyncio.create_task(watched(sweep, NEVER_S, lambda: asyncio.sleep(0.3)))
    await asyncio.sleep(0)
    early = [watched(sweep, s, lambda: asyncio.sleep(0.3), early=True) for s in (NEVER_S, 0.02)]
    assert await asyncio.gather(*early) == [(False, False), (True, True)]
    assert await usual == (False, False)
    assert repr(sweep) == "<Sweep of 0>"


async def test_a_cancellation_of_ours_is_taken_back(sweep: Sweep) -> None:
    async def request() -> int:
        await watched(sweep, 0.02, lambda: asyncio.sleep(NEVER_S))
        task = asyncio.current_task()
        assert task is not None
        return task.cancelling()

    assert await asyncio.create_task(request()) == 0


async def test_a_cancellation_by_others_is_not_ours(sweep: Sweep) -> None:
    task = asyncio.create_task(watched(sweep, NEVER_S, lambda: asyncio.sleep(NEVER_S)))
    await asyncio.sleep(0.02)
    task.cancel()
    assert await task == (True, False)


async def test_who_goes_on_after_it_is_not_cancelled_again(sweep: Sweep) -> None:
    async def stubborn() -> None:
        try:
            await asyncio.sleep(NEVER_S)
        except asyncio.CancelledError:
            await asyncio.sleep(0.1)

    assert await watched(sweep, 0.02, stubborn) == (False, True)


async def test_nothing_turns_while_nobody_is_watched(sweep: Sweep) -> None:
    await watched(sweep, NEVER_S, lambda: asyncio.sleep(0))
    assert repr(sweep) == "<Sweep of 0>"
    assert sweep._timer is not None
    await asyncio.sleep(0.1)
    assert sweep._timer is None
