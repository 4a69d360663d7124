"""Caches with one fault each, of the kind that only an unlucky interleaving shows."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from service.cache.cache import TieredCache
from service.cache.owed import Owed
from service.errors import StoreUnavailable


class KeepsWhatWasDropped(TieredCache):
    """A load that was under way when its key was dropped puts its result into the worker's tier."""

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self._reads.is_current = lambda _: True  # type: ignore[method-assign]
        self._refreshes.is_current = lambda _: True  # type: ignore[method-assign]


class JoinsOldLoads(TieredCache):
    """Whoever asks after a change gets the result of a load from before it."""

    def drop(self, keys_: Iterable[str] | None = None) -> None:
        for key in self._local._values.copy() if keys_ is None else keys_:
            self._local.drop(key)


class DropsTooLate(TieredCache):
    """Only when Redis is told, which it may never be."""

    async def invalidate(self, keys_: Iterable[str], *, change: str | None = None) -> None:
        told = tuple(keys_)
        for key in told:
            await self._fleet._tell(key, change or "")
        self.drop(told)


class ForgetsItsDebts(TieredCache):
    """What Redis could not be told is not told later."""

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        real = self._fleet._owed._tell

        async def once(key: str, change: str) -> None:
            try:
                await real(key, change)
            except StoreUnavailable:
                return

        self._fleet._owed._tell = once


class ReadsBeforeItTells(TieredCache):
    """What is owed is told some time, but not before Redis is asked again."""

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self._fleet._owed = _TellsInTheBackground(self._fleet._tell, name="broken")


class _TellsInTheBackground(Owed):
    async def settle(self, key: str) -> None:
        if key in self and self._telling is not None:
            return
        await super().settle(key)


BROKEN_CACHES: dict[str, type[TieredCache]] = {
    "keeps what was dropped": KeepsWhatWasDropped,
    "joins old loads": JoinsOldLoads,
    "drops too late": DropsTooLate,
    "forgets its debts": ForgetsItsDebts,
    "reads before it tells": ReadsBeforeItTells,
}
