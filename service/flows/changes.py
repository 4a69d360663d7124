"""Every change of a flow, however it was made in PostgreSQL, reaches the caches of all workers.

The database itself records each change and tells of it (migration 0003). A worker hears of it

- from PostgreSQL: it forgets, and makes the fleet forget, which counts once for each change, and
  is left to one worker where it is much (``claims``);
- from Redis, told by whichever worker was first: it forgets its own copy;
- at the latest from the record, which is looked through every few seconds, and at once when a
  connection was lost and made again. It is followed from where the fleet has got to, which stands
  in Redis beside the values: so nothing is missed that happened while no worker was there.

A change therefore shows at once while one of the connections stands, within LOOK_S while
PostgreSQL can be asked at all, and as soon as it can be asked again.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import time
from collections import deque
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import structlog

from service.cache.cache import TieredCache
from service.database import Database, Row, load_queries
from service.database.listener import Listener
from service.errors import StoreUnavailable, TollgateError
from service.flows.cached import NAMESPACE, Change
from service.flows.claims import Claims
from service.store import keys
from service.store.client import Store
from service.tasks import end

if TYPE_CHECKING:
    from service.metrics.changes import ChangeCounts

#: As migration 0003 calls it.
CHANNEL = "tollgate_flows"
#: Between two looks into the record, spread so that a fleet does not look in step.
LOOK_S = (3.0, 4.5)
#: Changes of more values are told to Redis by one worker alone, in pieces of so many.
MANY = 500
#: After a look that failed.
AGAIN_S = (0.5, 1.0)
#: A change stays on record for so long: longer than any worker's own copy lives.
KEPT_S = 86_400.0
#: The share of looks after which the record is tidied up: every quarter of an hour or so.
_TIDY = 0.005
#: Applied of late, by name: told and then found on record, they count once.
_REMEMBERED = 1000
#: More than so many waiting are rather looked up together.
_WAITING = 1000

_SNAPSHOT = re.compile(rb"[0-9]+:[0-9]+:[0-9,]*")
_QUERIES = load_queries("service.flows", "changes.sql")

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Hearing:
    """Which of the two connections that tell of changes stand."""

    postgres: bool
    redis: bool


class FlowChanges:
    """Follows all changes from ``start`` to ``stop``."""

    def __init__(
        self,
        database: Database,
        store: Store,
        cache: TieredCache,
        listener: Listener,
        *,
        counts: ChangeCounts,
    ) -> None:
        self._database = database
        self._store = store
        self._cache = cache
        self._listener = listener
        self._counts = counts
        listener.on(CHANNEL, self._told, gap=self._database_gap)
        self._subscription = store.subscription(
            keys.cache_channel(NAMESPACE), self._forgotten, gap=self._store_gap
        )
        self._claims = Claims(store)
        self._position_key = keys.cache_position(NAMESPACE)
        #: How far the record was followed by this worker and, as it last saw, by the fleet;
        #: snapshots of PostgreSQL's. None: not known yet.
        self._position: str | None = None
        self._fleet: str | None = None
        self._waiting: deque[Change] = deque()
        self._applied: deque[str] = deque(maxlen=_REMEMBERED)
        self._look_at_s = 0.0
        self._failing = False
        self._wake = asyncio.Event()
        self._following: asyncio.Task[None] | None = None

    @property
    def hearing(self) -> Hearing:
        """As far as is known at this moment."""
        return Hearing(self._listener.connected, self._subscription.connected)

    async def start(self) -> None:
        """Hear and look in the background; the listener is started by whoever made it."""
        await self._subscription.start()
        self._following = asyncio.create_task(self._follow(), name="flow-changes")

    async def stop(self) -> None:
        if self._following:
            await end(self._following)
            self._following = None
        await self._subscription.stop()

    async def tidy(self) -> None:
        """Remove what nobody needs to look up any more."""
        await self._database.execute(_QUERIES.forget_changes, {"kept_s": KEPT_S})

    # --- hearing: quick, and in the loop of whoever tells -------------------------------------

    def _told(self, payload: str) -> None:
        self._counts.heard("postgres")
        change = _read(payload)
        if change is None or len(self._waiting) >= _WAITING:
            self._waiting.clear()
            self._look_now()
            return
        self._cache.drop(change.keys)
        self._waiting.append(change)
        self._wake.set()

    def _forgotten(self, key: str) -> None:
        self._counts.heard("redis")
        self._cache.drop((key,))

    def _database_gap(self) -> None:
        self._counts.gap("postgres")
        self._cache.drop()
        self._look_now()

    def _store_gap(self) -> None:
        # Another Redis may answer now, or one that has lost what it was told last.
        self._counts.gap("redis")
        self._applied.clear()
        self._cache.drop()
        self._look_now()

    def _look_now(self) -> None:
        self._look_at_s = 0.0
        self._wake.set()

    # --- following ----------------------------------------------------------------------------

    async def _follow(self) -> None:
        while True:
            try:
                await self._catch_up()
            except TollgateError as error:
                self._failed(error)
            except Exception:
                # Whatever it was: a worker that follows no more would keep old values.
                log.exception("flow_changes_failed")
            await self._pause()

    def _failed(self, error: TollgateError) -> None:
        """Nothing is lost, it stands on record: look again soon."""
        self._look_at_s = time.monotonic() + random.uniform(*AGAIN_S)  # noqa: S311 - no secret
        if not self._failing:
            self._failing = True
            log.warning("flow_changes_not_followed", code=error.code, reason=error.message)

    async def _pause(self) -> None:
        left_s = self._look_at_s - time.monotonic()
        try:
            async with asyncio.timeout(max(0.0, left_s)):
                await self._wake.wait()
        except TimeoutError:
            return
        self._wake.clear()

    async def _catch_up(self) -> None:
        await self._apply_told()
        if time.monotonic() >= self._look_at_s:
            self._look_at_s = time.monotonic() + random.uniform(*LOOK_S)  # noqa: S311 - no secret
            await self._look()
            self._failing = False

    async def _look(self) -> None:
        """Apply what is on record since the last look of this worker, and of the fleet."""
        fleet = await self._fleet_position()
        rows = await self._database.fetch(
            _QUERIES.changes_since, {"own": self._position, "fleet": fleet}
        )
        await self._apply_told()
        done = True
        for row in rows:
            if row["change"] is not None and row["change"] not in self._applied:
                done &= await self._apply_found(row)
        # What another worker is still at must be found again, by whoever looks, until it is done.
        if done:
            self._position = rows[0]["position"]
            await self._note_position(rows[0]["position"])
        if random.random() < _TIDY:  # noqa: S311 - no secret
            await self.tidy()

    async def _apply_told(self) -> None:
        while self._waiting:
            await self._apply(self._waiting.popleft())

    async def _apply_found(self, row: Row) -> bool:
        """False: it is large, and another worker's to do."""
        change = Change.of(row)
        if len(change.keys) <= MANY:
            await self._apply(change)
        else:
            self._cache.drop()
            if not await self._claims.do(change.name, partial(self._apply_many, change)):
                return False
            self._applied.append(change.name)
        self._counts.heard("record")
        return True

    async def _apply_many(self, change: Change) -> None:
        for first in range(0, len(change.keys), MANY):
            some = change.keys[first : first + MANY]
            await self._cache.invalidate(some, change=change.name)

    async def _apply(self, change: Change) -> None:
        if change.name in self._applied:
            return
        await self._cache.invalidate(change.keys, change=change.name)
        self._applied.append(change.name)

    async def _fleet_position(self) -> str | None:
        """How far Redis was told of all there was; None: away, or it was told nothing yet."""
        try:
            found: Any = await self._store.run(lambda: self._store.client.get(self._position_key))
        except StoreUnavailable:
            return None
        position = found.decode() if found and _SNAPSHOT.fullmatch(found) else None
        if _behind(position, self._fleet):
            self._applied.clear()  # it has lost what it was told last, as after a failover
        self._fleet = position
        return position

    async def _note_position(self, position: str) -> None:
        if position == self._fleet:
            return
        try:
            await self._store.run(lambda: self._store.client.set(self._position_key, position))
        except StoreUnavailable:
            return  # what it was not told of then, it is asked about when it is back
        self._fleet = position

    def __repr__(self) -> str:
        hearing = self.hearing
        channels = [name for name in ("postgres", "redis") if getattr(hearing, name)]
        return f"<FlowChanges hearing {' and '.join(channels) or 'nothing'}>"


def _read(payload: str) -> Change | None:
    """None: too large to be told, or not ours; the record says it all."""
    try:
        return Change.of(json.loads(payload))
    except (ValueError, KeyError, TypeError):
        return None


def _behind(position: str | None, known: str | None) -> bool:
    """Is it an earlier snapshot than ``known``? By xmax, of ``xmin:xmax:running``."""
    if known is None:
        return False
    return position is None or int(position.split(":")[1]) < int(known.split(":")[1])
