"""Work that is finished though whoever asked for it has left.

A request may be cancelled at any await: its client goes, or its time is over. What must not be left
half done runs in a task of its own here; it is remembered, so that a worker awaits it before it
closes what the work needs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import structlog

from service.errors import TollgateError
from service.tasks import end

T = TypeVar("T")

log = structlog.get_logger()


class Detached:
    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    def __repr__(self) -> str:
        return f"<Detached {len(self._tasks)}>"

    async def finish(self, work: Coroutine[Any, Any, T], *, name: str) -> T:
        """Its outcome; a caller that is cancelled leaves, the work goes on."""
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if not task.done():
                log.info("caller_left", work=name)
                task.add_done_callback(_tell)
            raise

    async def close(self, *, within_s: float) -> None:
        """Wait for what is still at work; what takes longer is cancelled."""
        if not self._tasks:
            return
        _, late = await asyncio.wait(self._tasks, timeout=within_s)
        for task in late:
            log.warning("work_cut_off", work=task.get_name())
        await end(*late)


def _tell(task: asyncio.Task[Any]) -> None:
    """Nobody waits for the outcome any more: the log is told."""
    if task.cancelled():
        return
    error = task.exception()
    if error is None:
        log.info("work_finished_alone", work=task.get_name())
    elif isinstance(error, TollgateError):
        log.info("work_failed_alone", work=task.get_name(), code=error.code)
    else:
        log.error("work_crashed_alone", work=task.get_name(), exc_info=error)
