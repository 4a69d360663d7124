"""A limit on loads at once: a cold cache must not keep others from the database."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from service.errors import DatabaseBusy

#: At most so many wait for each place; whoever comes then is refused at once.
LINE_PER_PLACE = 50
RETRY_AFTER_S = 1.0


class LoadGate:
    """``async with gate.turn(wait_s): load`` raises DatabaseBusy if no place was free in time."""

    def __init__(self, places: int) -> None:
        self._free = places
        self._longest = places * LINE_PER_PLACE
        self._line: deque[asyncio.Future[None]] = deque()
        self.refused = 0

    @asynccontextmanager
    async def turn(self, wait_s: float) -> AsyncIterator[None]:
        await self._enter(wait_s)
        try:
            yield
        finally:
            self._leave()

    async def _enter(self, wait_s: float) -> None:
        if self._free:
            self._free -= 1
            return
        if wait_s <= 0 or len(self._line) >= self._longest:
            raise self._refusal()
        turn = asyncio.get_running_loop().create_future()
        self._line.append(turn)
        try:
            async with asyncio.timeout(wait_s):
                await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled():
                self._leave()  # it was given to us while we were giving up
            elif turn in self._line:
                self._line.remove(turn)
            if isinstance(error, TimeoutError):
                raise self._refusal() from None
            raise

    def _leave(self) -> None:
        """The place goes straight to whoever waits longest."""
        while self._line:
            turn = self._line.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1

    def _refusal(self) -> DatabaseBusy:
        self.refused += 1
        return DatabaseBusy(
            "As much is being read from the database as this worker may.",
            retry_after_s=RETRY_AFTER_S,
        )

    def __repr__(self) -> str:
        return f"<LoadGate free={self._free} waiting={len(self._line)} refused={self.refused}>"
