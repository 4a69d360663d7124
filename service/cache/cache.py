"""Read-through cache in two tiers: this worker's, for seconds, and the fleet's in Redis.

What it guarantees:

- After ``invalidate``, and once Redis has been told, a read that begins gives no older value: in
  this worker and in those told to ``drop`` it at once, in the others after ``local_seconds``.
- A value that nobody has is loaded once in the whole fleet, however many wait for it, and whoever
  of them gives up waiting.
- A value past its fresh age is still given, while one worker of the fleet loads it anew. If that
  fails, it is given up to its stale age.
- Without Redis each worker loads for itself, ``loads`` values at once at the most.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from service.cache.fleet import FleetTier, Held, Ticket
from service.cache.loading import FAILURES, Load, Loads
from service.cache.local import Entry, LocalTier
from service.cache.models import Ages, Cached, CacheStatistics, LocalStatistics
from service.cache.singleflight import SingleFlight
from service.errors import StoreUnavailable, TollgateError
from service.store.client import Store

if TYPE_CHECKING:
    from service.settings import CacheSettings

#: Values loaded together do not all grow old together.
_FRESH_SPREAD = 0.1
#: Given while it is loaded anew: look soon whether it has been.
_STALE_S = 1.0
#: After a failed refresh the fleet lets the database rest, each key by itself.
REST_S = 2.0


@dataclass(frozen=True, slots=True)
class _Want:
    """One key being read: how, for how long, and what for."""

    key: str
    load: Load
    ages: Ages
    #: Until then the database may be waited for, on this worker's clock.
    until_s: float
    refresh: bool = False


class TieredCache:
    """Values are bytes; None means known not to exist, and is remembered for a shorter time.

    ``namespace`` names what is cached and the number of its form, such as ``flow-2``: workers of
    two versions never read each other's values.
    """

    def __init__(
        self,
        store: Store,
        settings: CacheSettings,
        *,
        namespace: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._namespace = namespace
        self._settings = settings
        self._clock = clock
        self._ages = Ages(settings.fresh_seconds, settings.stale_seconds)
        self._local = LocalTier(
            entries=settings.local_entries,
            bytes_=settings.local_bytes,
            unknowns=settings.local_unknowns,
        )
        self._fleet = FleetTier(
            store, namespace=namespace, wait_s=settings.wait_seconds, clock=clock
        )
        self._loads = Loads(namespace, places=settings.loads)
        self._reads: SingleFlight[Cached] = SingleFlight()
        self._refreshes: SingleFlight[Cached] = SingleFlight()
        self._hits = self._misses = self._stale = self._degraded = self._void = 0

    async def close(self) -> None:
        """End the loads in flight."""
        await self._reads.close()
        await self._refreshes.close()
        await self._fleet.close()  # the last: a load may have left it something to tell

    def peek(self, key: str) -> Cached | None:
        """As ``get``, if this worker may give its own copy without asking anybody."""
        entry = self._local.get(key)
        if entry is None or self._clock() >= entry.good_until_s:
            return None
        self._hits += 1
        return self._given(entry.cached) if entry.cached.stale else entry.cached

    async def get(self, key: str, load: Load, *, ages: Ages | None = None) -> Cached:
        """The value of ``key``, from ``load()`` if it is nowhere else.

        Raises what ``load`` raises if there is no older value to give instead, DatabaseBusy if it
        could not begin in time. ``ages`` in place of those of the settings.
        """
        entry = self._local.get(key)
        if entry is not None and self._clock() < entry.good_until_s:
            self._hits += 1
            return self._given(entry.cached) if entry.cached.stale else entry.cached
        self._misses += 1
        return self._given(await self._missed(key, load, ages or self._ages, entry))

    def drop(self, keys_: Iterable[str] | None = None) -> None:
        """Forget this worker's copies of these keys, which have changed.

        Without keys: any may have changed. Each is asked for again before it is given; the copies
        stay for when neither Redis nor the database can be asked. Who waits for a load in flight
        is still given its result, which is not kept here.
        """
        if keys_ is None:
            self._local.doubt()
            self._reads.forget_all()
            self._refreshes.forget_all()
            return
        for key in keys_:
            self._local.drop(key)
            self._reads.forget(key)
            self._refreshes.forget(key)

    async def invalidate(self, keys_: Iterable[str], *, change: str | None = None) -> None:
        """Forget these keys in the whole fleet, after the change they follow from is committed.

        ``change`` names that change: told by many workers, it counts once. Never raises: what
        Redis could not be told now, this worker tells it as soon as it can.
        """
        told = tuple(dict.fromkeys(keys_))
        self.drop(told)
        # Whoever reads one of them here meanwhile tells Redis of it first.
        await self._fleet.invalidate(told, change or "")

    def statistics(self) -> CacheStatistics:
        return CacheStatistics(
            LocalStatistics(
                self._hits, self._stale, self._degraded, self._misses,
                len(self._local), self._local.unknowns, self._local.bytes,
            ),
            self._fleet.statistics(),
            self._loads.statistics(waits=self._fleet.waits, void=self._void),
        )  # fmt: skip

    def _given(self, cached: Cached) -> Cached:
        if cached.stale:
            self._stale += 1
            self._degraded += cached.degraded
        return cached

    async def _missed(self, key: str, load: Load, ages: Ages, entry: Entry | None) -> Cached:
        if entry is not None and entry.cached.degraded:
            end_s = entry.good_until_s + self._settings.local_seconds
            if self._clock() < end_s:
                # It has just failed: nobody need wait for it to fail again.
                self._reads.begin(key, lambda: self._read(key, load, ages))
                return entry.cached
        return await self._reads.join(key, lambda: self._read(key, load, ages))

    async def _read(self, key: str, load: Load, ages: Ages) -> Cached:
        """From Redis, else loaded; kept unless the key was dropped meanwhile."""
        want = _Want(key, load, ages, self._clock() + self._settings.wait_seconds)
        try:
            found = await self._fleet.find(key, lambda: self._held(key), until_s=want.until_s)
        except StoreUnavailable:
            return await self._load(want, None, self._reads)
        if found.state == "miss":
            return await self._load(want, found.ticket, self._reads)
        stale = found.state == "stale"
        cached = Cached(found.value, self._clock() - found.age_s, stale, stale and found.failed)
        if self._reads.is_current(key):
            most_s = _STALE_S if stale else found.left_s
            self._keep(key, cached, found.read_at_s, most_s, found.stamp)
        if stale and found.mine:
            again = replace(want, refresh=True)
            self._refreshes.begin(key, lambda: self._load(again, found.ticket, self._refreshes))
        return cached

    async def _load(
        self, want: _Want, ticket: Ticket | None, flight: SingleFlight[Cached]
    ) -> Cached:
        began_s = self._clock()
        try:
            value = await self._loads.run(
                want.load, wait_s=want.until_s - began_s, refresh=want.refresh
            )
        except TollgateError as error:
            failed = isinstance(error, FAILURES)
            if ticket is not None:
                rest_s = REST_S if failed and want.refresh else 0.0
                await self._fleet.release(want.key, ticket, rest_s=rest_s)
            older = self._older(want) if failed else None
            if older is None:
                raise
            return older
        cached = Cached(value, began_s)
        spread = random.uniform(1 - _FRESH_SPREAD, 1 + _FRESH_SPREAD)  # noqa: S311
        fresh_s = self._settings.unknown_seconds if value is None else want.ages.fresh_s * spread
        if not await self._offer(want, cached, ticket, fresh_s):
            self._void += 1
        elif flight.is_current(want.key):
            self._keep(want.key, cached, began_s, fresh_s, ticket.begun_us if ticket else 0)
        return cached

    async def _offer(
        self, want: _Want, cached: Cached, ticket: Ticket | None, fresh_s: float
    ) -> bool:
        """To Redis; False if it was invalidated, or loaded anew, since this load began."""
        if ticket is None:
            return True
        if cached.value is None and self._local.crowded(self._clock()):
            # A flood of names that nobody has must not fill Redis either.
            await self._fleet.release(want.key, ticket)
            return True
        life_s = fresh_s if cached.value is None else want.ages.stale_s
        try:
            return await self._fleet.store(
                want.key, cached.value, ticket, fresh_s=fresh_s, life_s=life_s
            )
        except StoreUnavailable:
            return True

    def _held(self, key: str) -> Held | None:
        entry = self._local.get(key)
        return Held(entry.cached.value, entry.stamp) if entry else None

    def _keep(self, key: str, cached: Cached, asked_s: float, most_s: float, stamp: int) -> None:
        """A copy may be wrong for so long, counted from the question and not from the answer."""
        good_s = min(self._settings.local_seconds, most_s)
        self._local.put(key, Entry(cached, asked_s + good_s, stamp))

    def _older(self, want: _Want) -> Cached | None:
        """This worker's last value, good for another while, if it is not too old to be given."""
        entry = self._local.get(want.key)
        if entry is None or entry.cached.value is None:
            return None
        now_s = self._clock()
        if now_s < entry.good_until_s and not entry.cached.stale:
            return entry.cached
        if now_s - entry.cached.loaded_at_s > want.ages.stale_s:
            return None
        older = replace(entry.cached, stale=True, degraded=True)
        self._keep(want.key, older, now_s, REST_S, entry.stamp)
        return older

    def __repr__(self) -> str:
        s = self.statistics()
        return (
            f"<TieredCache {self._namespace} entries={s.local.entries} local={s.local.hits}"
            f" fleet={s.fleet.hits} stale={s.local.stale} loads={s.loads.misses}"
            f" refreshes={s.loads.refreshes} errors={s.loads.errors} owed={self._fleet.owed}>"
        )
