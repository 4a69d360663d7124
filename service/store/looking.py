"""Asking who holds what, once for all who want to know it at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import Context

from service.tasks import end


class Looking:
    """``look`` finds out and raises what redis-py raises; it is never run twice at a time."""

    def __init__(self, look: Callable[[], Awaitable[None]]) -> None:
        self._look = look
        self._task: asyncio.Task[None] | None = None

    async def done(self) -> None:
        """Wait until it has been found out. Given up by one, it goes on for the others."""
        await asyncio.shield(self.begin())

    def begin(self) -> asyncio.Task[None]:
        """Find out, without waiting for it: a failure shows at the next command."""
        if self._task is None or self._task.done():
            # An empty context: it belongs to no request.
            self._task = asyncio.get_running_loop().create_task(self._run(), context=Context())
            self._task.add_done_callback(_looked_at)
        return self._task

    async def stop(self) -> None:
        if self._task is not None:
            await end(self._task)

    async def _run(self) -> None:
        await self._look()

    def __repr__(self) -> str:
        return f"<Looking {'now' if self._task and not self._task.done() else 'idle'}>"


def _looked_at(task: asyncio.Task[None]) -> None:
    if not task.cancelled():
        task.exception()
