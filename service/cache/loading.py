"""What the cache asks of the database: so much at once, for so long, and counted.

A load belongs to no request: its time is bounded here, not by the deadline of whoever began it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from service.cache.gate import LoadGate
from service.cache.models import LoadStatistics
from service.errors import DeadlineExceeded, DependencyError, StatementFailed, TollgateError
from service.store import keys

log = structlog.get_logger()

Load = Callable[[], Awaitable[bytes | None]]

#: Half the life of a fence: a load ends well before its fence does, and so can be checked by it.
LOAD_LIMIT_S = keys.CACHE_FENCE_LIFE_MS / 1000 / 2
#: It could not be loaded. Any other error is an answer: asking again would bring the same.
FAILURES = (DependencyError, DeadlineExceeded, StatementFailed)


class Loads:
    """``run`` for all loads of one cache in this worker."""

    def __init__(self, name: str, *, places: int) -> None:
        self._name = name
        self._gate = LoadGate(places)
        self._failing = False
        self._misses = self._refreshes = self._errors = 0

    async def run(self, load: Load, *, wait_s: float, refresh: bool) -> bytes | None:
        """What ``load`` gives. Raises DatabaseBusy if it could not begin within ``wait_s``."""
        try:
            async with self._gate.turn(wait_s):
                value = await self._counted(load, refresh=refresh)
        except FAILURES as error:
            self._noticed(error)
            raise
        self._noticed(None)
        return value

    def statistics(self, *, waits: int, void: int) -> LoadStatistics:
        return LoadStatistics(
            self._misses, self._refreshes, self._errors, self._gate.refused, waits, void
        )

    async def _counted(self, load: Load, *, refresh: bool) -> bytes | None:
        self._refreshes += refresh
        self._misses += not refresh
        try:
            async with asyncio.timeout(LOAD_LIMIT_S):
                return await load()
        except TimeoutError as error:
            self._errors += 1
            raise DeadlineExceeded from error
        except FAILURES:
            self._errors += 1
            raise

    def _noticed(self, error: TollgateError | None) -> None:
        """One line when loads begin to fail and one when they work again, not one for each."""
        if self._failing == (error is not None):
            return
        self._failing = error is not None
        if error is not None:
            log.warning("cache_loads_failing", cache=self._name, error=error.code)
        else:
            log.info("cache_loads_back", cache=self._name)
