"""Refusals that are held back."""

from __future__ import annotations

import asyncio

import pytest

from service.overload import held as held_module
from service.overload.held import HOLD_S, MOST_HELD, MOST_RELEASED, Held


class Clock:
    now_s = 1000.0

    def monotonic(self) -> float:
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(held_module, "time", clock)
    return clock


async def holding(held: Held, number: int) -> list[asyncio.Task[None]]:
    tasks = [asyncio.create_task(held.wait()) for _ in range(number)]
    await turns()
    return tasks


async def turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_each_is_held_for_its_time(clock: Clock) -> None:
    held = Held()
    held.start()
    (first,) = await holding(held, 1)
    clock.now_s += HOLD_S / 2
    (second,) = await holding(held, 1)
    clock.now_s += HOLD_S * 0.6
    held.release()
    await turns()
    assert (first.done(), second.done()) == (True, False)
    clock.now_s += HOLD_S
    held.release()
    await second


async def test_only_so_many_are_released_at_a_time(clock: Clock) -> None:
    held = Held()
    held.start()
    tasks = await holding(held, MOST_RELEASED + 10)
    clock.now_s += 10 * HOLD_S
    held.release()
    await turns()
    assert sum(task.done() for task in tasks) == MOST_RELEASED
    held.release()
    await asyncio.gather(*tasks)


@pytest.mark.usefixtures("clock")
async def test_those_beyond_the_most_are_told_at_once() -> None:
    held = Held()
    held.start()
    tasks = await holding(held, MOST_HELD)
    assert not any(task.done() for task in tasks)
    async with asyncio.timeout(5):
        await held.wait()
    held.stop()
    await asyncio.gather(*tasks)


async def test_who_leaves_meanwhile_troubles_nobody(clock: Clock) -> None:
    held = Held()
    held.start()
    gone, staying = await holding(held, 2)
    gone.cancel()
    await turns()
    clock.now_s += 2 * HOLD_S
    held.release()
    await staying
    assert len(held) == 0


async def test_nobody_is_held_before_the_start_or_after_the_end() -> None:
    held = Held()
    async with asyncio.timeout(5):
        await held.wait()
        held.start()
        (waiting,) = await holding(held, 1)
        held.stop()
        await waiting
        await held.wait()
