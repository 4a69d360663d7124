"""The delay what is ready has on a real loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from service.overload.queue_delay import QueueDelay

#: Far above what a busy machine adds, and far below a test's patience.
HELD_UP_S = 0.5


def noting(seen: list[float]) -> Callable[[float], bool]:
    def sampled(delay_s: float) -> bool:
        seen.append(delay_s)
        return True

    return sampled


async def samples(*, block: bool) -> list[float]:
    seen: list[float] = []
    enough = asyncio.Event()

    def sampled(delay_s: float) -> bool:
        seen.append(delay_s)
        if len(seen) == 3:
            enough.set()
        return True

    delay = QueueDelay(sampled)
    delay.start()
    try:
        if block:
            time.sleep(HELD_UP_S)  # noqa: ASYNC251  (that is the point)
        async with asyncio.timeout(10):
            await enough.wait()
    finally:
        delay.stop()
    return seen


async def test_a_loop_that_stands_still_is_late_by_as_much() -> None:
    assert (await samples(block=True))[0] > HELD_UP_S / 2


async def test_work_that_is_ready_before_delays_too() -> None:
    """As requests do that were read before ours: the timer is punctual, its turn is not."""
    loop = asyncio.get_running_loop()
    seen: list[float] = []
    delay = QueueDelay(noting(seen))
    delay.start()
    delay._due_s = time.monotonic()
    loop.call_soon(time.sleep, HELD_UP_S)
    delay._due()
    async with asyncio.timeout(10):
        while not seen:
            await asyncio.sleep(0)
    delay.stop()
    assert seen[0] >= HELD_UP_S * 0.9


async def test_an_idle_loop_is_hardly_late() -> None:
    assert min(await samples(block=False)) < HELD_UP_S / 2


async def test_after_its_end_it_samples_no_more() -> None:
    seen: list[float] = []
    delay = QueueDelay(noting(seen))
    delay.start()
    delay.stop()
    await asyncio.sleep(0.3)
    assert seen == []
