"""Background work that repeats: a task for each loop, woken early, slowed by failures."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

import structlog

from service.errors import TollgateError
from service.tasks import end

log = structlog.get_logger()

#: The longest pause after failures in a row.
MAX_PAUSE_S = 15.0


class Loop:
    """Calls ``tick`` every ``interval_s`` (± 20 %), at once again while it returns True.

    A failing tick is logged (expected failures without a stack trace, once until it succeeds) and
    tried again with a growing pause, of ``most_s`` at most; it never ends the loop.
    """

    def __init__(
        self,
        name: str,
        tick: Callable[[], Awaitable[bool]],
        *,
        interval_s: float,
        most_s: float = MAX_PAUSE_S,
    ) -> None:
        self._name = name
        self._tick = tick
        self._interval_s = interval_s
        self._most_s = most_s
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._failures = 0

    def __repr__(self) -> str:
        state = "stopped" if self._task is None else "failing" if self._failures else "turning"
        return f"<Loop {self._name} {state}>"

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name=f"loop-{self._name}")

    def wake(self) -> None:
        """Tick now rather than at the end of the pause."""
        self._wake.set()

    async def stop(self) -> None:
        if self._task is None:
            return
        await end(self._task)
        self._task = None

    async def _run(self) -> None:
        while True:
            again = await self._tick_once()
            if again:
                await asyncio.sleep(0)
                continue
            await self._pause()

    async def _tick_once(self) -> bool:
        try:
            again = await self._tick()
        except TollgateError as error:
            self._failed(error)
            return False
        except Exception:
            log.exception("loop_crashed", loop=self._name)
            self._failures += 1
            return False
        if self._failures:
            log.info("loop_recovered", loop=self._name, failures=self._failures)
            self._failures = 0
        return again

    def _failed(self, error: TollgateError) -> None:
        self._failures += 1
        if self._failures == 1:
            log.warning("loop_failed", loop=self._name, code=error.code, reason=error.message)

    async def _pause(self) -> None:
        pause_s = self._interval_s
        if self._failures:
            pause_s = min(self._most_s, pause_s * 2 ** min(self._failures, 6))
        try:
            async with asyncio.timeout(pause_s * random.uniform(0.8, 1.2)):  # noqa: S311
                await self._wake.wait()
        except TimeoutError:
            return
        finally:
            self._wake.clear()
