"""Invalidations that Redis has still to be told of: made while it was away, or never answered."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable, Sequence

import structlog

from service.deadline import CURRENT
from service.errors import DeadlineExceeded, StoreUnavailable
from service.tasks import end

log = structlog.get_logger()

#: At once; more would take the connections that requests need.
TOLD_AT_ONCE = 8
#: While Redis is away asking costs nothing: most is refused by the store's own guard.
AGAIN_S = 0.5

Tell = Callable[[str, str], Awaitable[None]]


class _Debt:
    """An object of its own for each: told of an older one, a newer one of the key is still owed."""

    __slots__ = ("change",)

    def __init__(self, change: str) -> None:
        self.change = change


class Owed:
    """Calls ``tell(key, change)`` until it succeeds; of each key only the latest change is kept."""

    def __init__(self, tell: Tell, *, name: str) -> None:
        self._tell = tell
        self._name = name
        self._debts: dict[str, _Debt] = {}
        self._telling: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return len(self._debts)

    def __contains__(self, key: str) -> bool:
        return key in self._debts

    async def tell(self, keys_: Iterable[str], change: str) -> None:
        """Returns when all are told or Redis is found to be away; the rest follows by itself."""
        added = {key: _Debt(change) for key in keys_}
        self._debts.update(added)
        try:
            if not await self._try(tuple(added)):
                log.warning("cache_invalidation_owed", cache=self._name, keys=len(self._debts))
        finally:
            if self._debts and self._telling is None:
                self._telling = asyncio.create_task(self._keep_telling())

    async def settle(self, key: str) -> None:
        """Tell of this one now, if it is owed. Raises StoreUnavailable, DeadlineExceeded."""
        debt = self._debts.get(key)
        if debt is None:
            return
        await self._tell(key, debt.change)
        if self._debts.get(key) is debt:
            del self._debts[key]

    async def close(self) -> None:
        if self._telling is not None:
            await end(self._telling)

    async def _try(self, keys_: Sequence[str]) -> bool:
        for first in range(0, len(keys_), TOLD_AT_ONCE):
            some = keys_[first : first + TOLD_AT_ONCE]
            results = await asyncio.gather(*map(self.settle, some), return_exceptions=True)
            failures = [result for result in results if result is not None]
            for failure in failures:
                if not isinstance(failure, StoreUnavailable | DeadlineExceeded):
                    raise failure
            if failures:
                return False
        return True

    async def _keep_telling(self) -> None:
        CURRENT.set(None)
        try:
            while self._debts:
                await asyncio.sleep(AGAIN_S * random.uniform(0.5, 1.5))  # noqa: S311
                await self._try(tuple(self._debts))
            log.info("cache_invalidation_told", cache=self._name)
        finally:
            self._telling = None
