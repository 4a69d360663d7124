"""Read-through cache in two tiers: this worker's, for seconds, and the fleet's in Redis.

Guarantees: a miss is loaded once per worker however many wait for it; a value read before an
invalidation is never stored after it; past its fresh age a value is served while it is loaded
anew, and, up to its stale age, when it cannot be. While Redis is away each worker loads for
itself. An invalidation reaches other workers when their own tier's seconds are over.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

import structlog

from service.cache.local import Entry, LocalTier
from service.cache.models import (
    Cached,
    CacheStatistics,
    FleetStatistics,
    LoadStatistics,
    LocalStatistics,
)
from service.cache.singleflight import SingleFlight
from service.errors import DeadlineExceeded, StoreUnavailable, TollgateError
from service.store import keys
from service.store.client import Store

if TYPE_CHECKING:
    from service.settings import CacheSettings

log = structlog.get_logger()

#: Half the life of a version: the fence of a load is always there when the load ends.
LOAD_LIMIT_S = keys.CACHE_FENCE_LIFE_MS / 1000 / 2
#: Values loaded together do not all grow old together.
_FRESH_SPREAD = 0.1

Load = Callable[[], Awaitable[bytes | None]]


class TieredCache:
    """Values are bytes; None means known not to exist, and is remembered for a shorter time.

    ``namespace`` names what is cached and, when its form changes, the form: ``flow-2``.
    """

    def __init__(self, store: Store, settings: CacheSettings, *, namespace: str) -> None:
        self._namespace = namespace
        self._settings = settings
        self._get = store.script(__package__, "get", keys=2)
        self._put = store.script(__package__, "put", keys=2)
        self._invalidate = store.script(__package__, "invalidate", keys=2)
        self._local = LocalTier(settings.local_entries)
        self._reads: SingleFlight[Entry] = SingleFlight()
        self._refreshes: SingleFlight[Entry] = SingleFlight()
        # Invalidated while Redis was away: told to it before anything else is asked of it.
        self._owed: dict[str, str] = {}
        self._local_hits = self._fleet_hits = self._stale_hits = 0
        self._loads = self._load_errors = 0

    async def close(self) -> None:
        """End the loads in flight."""
        await self._reads.close()
        await self._refreshes.close()

    async def get(self, key: str, load: Load) -> Cached:
        """The value of ``key``, from ``load()`` if it is nowhere else.

        Raises what ``load`` raises if there is no older value to give instead.
        """
        entry = self._local.get(key)
        if entry is not None and time.monotonic() < entry.good_until_s:
            self._local_hits += 1
        else:
            entry = await self._reads.join(key, lambda: self._read(key, load))
        if entry.stale:
            self._stale_hits += 1
        return Cached(entry.value, entry.loaded_at_s, entry.stale, entry.degraded)

    def drop(self, keys_: Iterable[str] | None = None) -> None:
        """Forget these in this worker only, None: all; what is being loaded will not be kept."""
        for key in self._held() if keys_ is None else keys_:
            self._forget(key)

    async def invalidate(self, keys_: Iterable[str], *, change: str | None = None) -> None:
        """Forget these keys in the whole fleet, after the change they follow from is committed.

        ``change`` names that change: told by many workers, it counts once. Never raises: what
        Redis could not be told now, this worker tells it as soon as it can.
        """
        told = dict.fromkeys(keys_, change or "")
        self._owed.update(told)
        for key in told:
            self._forget(key)
            try:
                await self._settle(key)
            except (StoreUnavailable, DeadlineExceeded):
                log.warning("cache_invalidation_owed", cache=self._namespace, key=key)
            # Once more: a read may have found the old value before Redis was told.
            self._forget(key)

    def statistics(self) -> CacheStatistics:
        return CacheStatistics(
            LocalStatistics(self._local_hits, self._stale_hits, 0, 0, len(self._local), 0, 0),
            FleetStatistics(self._fleet_hits, 0, 0, 0),
            LoadStatistics(self._loads, 0, self._load_errors, 0, 0, 0),
        )

    async def _read(self, key: str, load: Load) -> Entry:
        """Redis, else the loader; the result is kept unless the key was invalidated meanwhile."""
        names = self._names(key)
        try:
            if key in self._owed:
                await self._settle(key)
            reply = await self._get(names, [keys.CACHE_FENCE_LIFE_MS])
        except StoreUnavailable:
            return await self._load(key, load, None, self._reads)
        state, version, age_ms, unknown, value = reply
        if state == b"miss" or (state == b"stale" and unknown):
            return await self._load(key, load, version, self._reads)
        self._fleet_hits += 1
        stale = state == b"stale"
        entry = self._entry(None if unknown else value, age_s=age_ms / 1000, stale=stale)
        if self._reads.is_current(key):
            self._local.put(key, entry)
        if stale:
            self._refreshes.begin(key, lambda: self._load(key, load, version, self._refreshes))
        return entry

    async def _load(
        self, key: str, load: Load, version: int | None, flight: SingleFlight[Entry]
    ) -> Entry:
        self._loads += 1
        try:
            value = await _in_time(load)
        except TollgateError as error:
            self._load_errors += 1
            if (older := self._older(key)) is None:
                raise
            log.warning("cache_serves_stale", cache=self._namespace, key=key, error=error.code)
            return older
        entry = self._entry(value, age_s=0.0, stale=False)
        stored = version is None or await self._offer(key, value, version)
        if stored and flight.is_current(key):
            self._local.put(key, entry)
        return entry

    async def _offer(self, key: str, value: bytes | None, version: int) -> bool:
        """To Redis; False if it was invalidated since ``version``."""
        if value is None:
            fresh_s = life_s = self._settings.unknown_seconds
        else:
            spread = random.uniform(1 - _FRESH_SPREAD, 1 + _FRESH_SPREAD)  # noqa: S311
            fresh_s = self._settings.fresh_seconds * spread
            life_s = max(fresh_s, self._settings.stale_seconds)
        args = (version, value or b"", int(value is None), _ms(fresh_s), _ms(life_s))
        try:
            return bool(await self._put(self._names(key), args))
        except StoreUnavailable:
            return True

    def _entry(self, value: bytes | None, *, age_s: float, stale: bool) -> Entry:
        good_s = self._settings.local_seconds
        if value is None:
            good_s = min(good_s, self._settings.unknown_seconds - age_s)
        now_s = time.monotonic()
        return Entry(value, now_s - age_s, now_s + good_s, stale)

    def _older(self, key: str) -> Entry | None:
        """This worker's last value, good for another while, if it is not too old to be given."""
        entry = self._local.get(key)
        if entry is None or entry.value is None:
            return None
        age_s = time.monotonic() - entry.loaded_at_s
        if age_s > self._settings.stale_seconds:
            return None
        older = replace(self._entry(entry.value, age_s=age_s, stale=True), degraded=True)
        self._local.put(key, older)
        return older

    async def _settle(self, key: str) -> None:
        change = self._owed.get(key, "")
        args = (keys.CACHE_FENCE_LIFE_MS, keys.cache_channel(self._namespace), key, change)
        await self._invalidate(self._names(key), args)
        if self._owed.get(key) == change:
            del self._owed[key]

    def _held(self) -> list[str]:
        return [*self._local.keys(), *self._reads.keys(), *self._refreshes.keys()]

    def _forget(self, key: str) -> None:
        self._local.drop(key)
        self._reads.forget(key)
        self._refreshes.forget(key)

    def _names(self, key: str) -> tuple[str, str]:
        return keys.cache_value(self._namespace, key), keys.cache_fence(self._namespace, key)

    def __repr__(self) -> str:
        s = self.statistics()
        return (
            f"<TieredCache {self._namespace} entries={s.local.entries} local={s.local.hits}"
            f" fleet={s.fleet.hits} stale={s.local.stale} loads={s.loads.misses}"
            f" errors={s.loads.errors}"
            f" owed={len(self._owed)}>"
        )


async def _in_time(load: Load) -> bytes | None:
    try:
        async with asyncio.timeout(LOAD_LIMIT_S):
            return await load()
    except TimeoutError as error:
        raise DeadlineExceeded from error


def _ms(seconds: float) -> int:
    return max(1, round(seconds * 1000))
