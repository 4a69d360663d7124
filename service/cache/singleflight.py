"""One load for many waiters, belonging to none of them.

The load is a task of its own: a waiter that is cancelled, the first one included, takes nothing
from the others, and the first one's deadline is not theirs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

import structlog

from service.deadline import CURRENT
from service.errors import TollgateError
from service.tasks import end

log = structlog.get_logger()

_Result = TypeVar("_Result")


class SingleFlight(Generic[_Result]):
    """Loads in flight, by key. Nothing here limits their time: each load must do that itself."""

    def __init__(self) -> None:
        self._current: dict[str, asyncio.Task[_Result]] = {}
        self._all: set[asyncio.Task[_Result]] = set()

    def __len__(self) -> int:
        return len(self._all)

    async def join(self, key: str, load: Callable[[], Awaitable[_Result]]) -> _Result:
        """The result of the load of ``key`` in flight, or of ``load`` if there is none.

        Its error is every waiter's, and is remembered for nobody else.
        """
        return await asyncio.shield(self._task(key, load))

    def begin(self, key: str, load: Callable[[], Awaitable[_Result]]) -> None:
        """As ``join``, with nobody waiting; an error that is none of ours is logged."""
        if key not in self._current:
            self._task(key, load).add_done_callback(_log_surprise)

    def forget(self, key: str) -> None:
        """The next to come starts another load; those who wait already get this one's result."""
        self._current.pop(key, None)

    def forget_all(self) -> None:
        self._current.clear()

    def is_current(self, key: str) -> bool:
        """For a load to ask about itself: False once its key was forgotten, so keep nothing."""
        return self._current.get(key) is asyncio.current_task()

    async def close(self) -> None:
        """End what is in flight."""
        await end(*self._all)

    def _task(self, key: str, load: Callable[[], Awaitable[_Result]]) -> asyncio.Task[_Result]:
        task = self._current.get(key)
        if task is None:
            task = asyncio.create_task(_detached(load))
            self._current[key] = task
            self._all.add(task)
            task.add_done_callback(lambda done: self._land(key, done))
        return task

    def _land(self, key: str, task: asyncio.Task[_Result]) -> None:
        self._all.discard(task)
        if self._current.get(key) is task:
            del self._current[key]
        if not task.cancelled():
            task.exception()  # all who waited may be gone; that alone is nothing to report


async def _detached(load: Callable[[], Awaitable[_Result]]) -> _Result:
    CURRENT.set(None)
    return await load()


def _log_surprise(task: asyncio.Task[_Result]) -> None:
    error = None if task.cancelled() else task.exception()
    if error is not None and not isinstance(error, TollgateError):
        log.error("background_load_failed", exc_info=error)
