"""The connections of one worker: aiopg's pool, with its faults in lending and opening repaired.

aiopg 1.4.0 connects while it holds the lock that borrowers and returners need, forgets to wake
those who wait when a connection comes back closed, and may wait for ever in closing. Here:

- connections are opened by tasks of the pool's own. A borrower takes a free connection at once,
  whatever the openers are waiting for; else it queues, and is handed the next connection that
  comes back or is opened, whichever is earlier. Who is next, and what is kept for whom, is decided
  in ``lanes``;
- every wait is bounded: a borrower's by its time-out, the queue by its length, closing by its own;
- waiting is a queue of futures, not a Condition: Python before 3.13 can lose a Condition's wake-up
  when a waiter is cancelled (gh-112202);
- a dead server is asked by one opener at a time, at growing, jittered intervals. For as long as a
  restart takes borrowers wait for it, then they are refused at once; the first success lets
  everybody in again.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import time
from collections.abc import Callable
from typing import cast

import aiopg.pool
import structlog
from aiopg.utils import create_completed_future

from service.database.classes import Lane
from service.database.connection import Connection, connect
from service.database.dsn import Dsn
from service.database.lanes import Lanes
from service.database.models import PoolStatus
from service.database.observer import Nobody, Observer
from service.database.outage import Outage, one_line
from service.errors import DatabaseBusy, DatabaseUnavailable

# Enough to follow a burst; a fleet that starts does not fall upon the server all at once.
_OPENED_AT_ONCE = 4
# Who waits in a lane beyond this would not be served in time anyway.
WAITING_MAX = 1000

log = structlog.get_logger()


class ConnectionPool(aiopg.pool.Pool):
    """Between ``minsize`` and ``maxsize`` connections; opens, replaces and lends them."""

    def __init__(
        self,
        dsn: Dsn,
        *,
        minsize: int,
        maxsize: int,
        connect_timeout_s: float,
        reserve: int | None = None,
        waiting_max: int = WAITING_MAX,
        observer: Observer | None = None,
        reached: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(
            str(dsn), minsize, maxsize, connect_timeout_s,
            enable_json=False, enable_hstore=False, enable_uuid=True,
            echo=False, on_connect=None, pool_recycle=-1,
        )  # fmt: skip
        self._server = dsn
        self._limit = maxsize
        self._lanes: Lanes[Connection] = Lanes(maxsize, reserve=reserve, waiting_max=waiting_max)
        self._lent: dict[Connection, Lane] = {}
        self._observer: Observer = observer or Nobody()
        self._reached = reached
        self._openers: set[asyncio.Task[Connection]] = set()
        self._filled = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._outage: Outage | None = None
        #: What was opened earlier is not to be used again.
        self._none_before_s = 0.0

    # --- borrowing ----------------------------------------------------------------------------

    async def borrow(self, timeout_s: float, lane: Lane = Lane.REQUESTS) -> Connection:
        """A live connection, to be given back with ``release``.

        Raises DatabaseUnavailable within ``timeout_s`` when the server is found to be silent, and
        at once while it is known to be away; DatabaseBusy when all that the lane may have are out
        for that long, and at once when too many wait already.
        """
        if self._closing:
            raise DatabaseUnavailable("The database connections are being closed.")
        if not self._lanes.waiting(lane) and self._lanes.may(lane) and (free := self._take_free()):
            self._lend(free, lane)
            self._top_up()  # in place of those that have died meanwhile
            return free
        if self._hopeless and (outage := self._outage):
            self._top_up()  # unless it is waiting or trying already
            self._observer.refused(lane, "away")
            raise outage.error()
        if self._lanes.full(lane):
            self._observer.refused(lane, "full")
            raise DatabaseBusy("Too many wait for a database connection of this worker already.")
        began_s = self._loop.time()
        connection = await self._wait(lane, timeout_s)
        self._observer.waited(lane, self._loop.time() - began_s)
        return connection

    async def _wait(self, lane: Lane, timeout_s: float) -> Connection:
        place: asyncio.Future[Connection] = self._loop.create_future()
        self._lanes.join(lane, place)
        self._top_up()
        try:
            async with asyncio.timeout(timeout_s):
                return await place
        except BaseException as error:
            if (
                not self._lanes.leave(lane, place)
                and place.done()
                and not place.cancelled()
                and not place.exception()
            ):
                self.release(place.result())  # handed over in the tick in which we gave up
            if isinstance(error, TimeoutError):
                refusal = self._refusal(lane, timeout_s)
                busy = isinstance(refusal, DatabaseBusy)
                self._observer.refused(lane, "busy" if busy else "away")
                raise refusal from error
            raise

    def release(self, conn: aiopg.Connection) -> asyncio.Future[None]:
        """Take a connection back, and hand it on if it is fit for use.

        One in an open transaction or amid a query is closed, which rolls back on the server.
        """
        conn = cast(Connection, conn)
        self._lanes.lent[self._lent.pop(conn)] -= 1
        if conn in self._terminated:
            self._terminated.discard(conn)
        else:
            self._used.remove(conn)
            if conn.idle() and conn.opened_at_s >= self._none_before_s and not self._closing:
                self._free.append(conn)
            else:
                self._observer.lost(_why_lost(conn))
                conn.close()
        self._serve()
        self._top_up()
        if not self._used:
            self._idle.set()
            self._refuse_hopeless()
        return create_completed_future(self._loop)

    def discard_idle(self) -> None:
        """Close every free connection: another one has met with silence, and so may they."""
        while self._free:
            self._free.pop().close()
            self._observer.lost("suspect")
        self._top_up()

    def discard_all(self) -> None:
        """No connection there is now is used again: they lead to a server we no longer want."""
        self._none_before_s = time.monotonic()
        self.discard_idle()

    async def _acquire(self) -> Connection:
        """aiopg's own door (``async with pool.acquire()``)."""
        return await self.borrow(self._timeout)

    # --- opening ------------------------------------------------------------------------------

    async def fill(self, wait_s: float) -> bool:
        """Start opening ``minsize`` connections; True once they have been there, within wait_s."""
        self._note_size()
        self._top_up()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await self._filled.wait()
        return self.filled

    @property
    def filled(self) -> bool:
        """Has the pool reached ``minsize`` once?"""
        return self._filled.is_set()

    def _top_up(self) -> None:
        """Start as many openers as the minimum and the queues ask for."""
        self._drop_dead()
        wanted = max(self._minsize, len(self._used) + len(self._lanes))
        missing = min(wanted, self._limit) - self.size
        at_once = 1 if self._outage else _OPENED_AT_ONCE
        if self._closing or (self._outage and self._outage.pausing):
            return
        for _ in range(min(missing, at_once - len(self._openers))):
            self._acquiring += 1
            # An empty context: the opener outlives, and is not part of, the request at hand.
            opener = self._loop.create_task(
                connect(self._server, timeout_s=self._timeout), context=contextvars.Context()
            )
            self._openers.add(opener)
            opener.add_done_callback(self._opener_done, context=contextvars.Context())

    def _opener_done(self, opener: asyncio.Task[Connection]) -> None:
        self._openers.discard(opener)
        self._acquiring -= 1
        if opener.cancelled():
            return
        # Whatever it was: an opener that fails without a pause would be replaced without end.
        if cause := opener.exception():
            self._failed(cause)
        else:
            self._opened(opener.result())
        self._top_up()

    def _opened(self, connection: Connection) -> None:
        if self._closing:
            connection.close()
            return
        self._observer.opened()
        if self._outage:
            log.info("database_reached", server=str(self._server))
            self._outage.end()
            self._outage = None
            self._reached()
        self._free.append(connection)
        self._serve()
        self._note_size()

    def _failed(self, cause: BaseException) -> None:
        now_s = self._loop.time()
        outage = self._outage = self._outage or Outage(now_s)
        pause_s = outage.begin_pause(cause, self._loop, self._top_up)
        if outage.worth_telling(now_s):
            log.warning("database_waiting", server=str(self._server), error=one_line(cause),
                        retry_in_s=round(pause_s, 3), waiting=len(self._lanes))  # fmt: skip
        self._refuse_hopeless()

    @property
    def _hopeless(self) -> bool:
        """Is there neither a server to be reached, nor anything out that may come back?"""
        outage = self._outage
        return outage is not None and not self._used and outage.hopeless(self._loop.time())

    def _refuse_hopeless(self) -> None:
        if self._outage and self._hopeless:
            for place in self._lanes.everybody():
                place.set_exception(self._outage.error())

    # --- closing ------------------------------------------------------------------------------

    async def shut(self, timeout_s: float) -> None:
        """Lend no more; wait ``timeout_s`` for what is out, then close it under its users."""
        self.close()
        if self._outage:
            self._outage.end()
        for place in self._lanes.everybody():
            place.set_exception(DatabaseUnavailable("The database connections were closed."))
        for opener in self._openers:
            opener.cancel()
        if self._openers:
            await asyncio.wait(self._openers)
        while self._free:
            self._free.pop().close()
        try:
            async with asyncio.timeout(timeout_s):
                await self._idle.wait()
        except TimeoutError:
            log.warning("database_connections_terminated", used=len(self._used))
            self.terminate()
        self._closed = True

    async def wait_closed(self) -> None:
        """aiopg's own name; bounded, unlike it."""
        await self.shut(self._timeout)

    # --- what there is ------------------------------------------------------------------------

    def waited_s(self, lane: Lane) -> float:
        """For how long the first of this lane waits for others to give back what they have.

        0 while there is no server, and so nothing to be given back.
        """
        return 0.0 if self._outage else self._lanes.waited_s(lane)

    def status(self) -> PoolStatus:
        return PoolStatus(
            size=self.size,
            free=len(self._free),
            used=len(self._used),
            waiting=len(self._lanes),
            minimum=self._minsize,
            maximum=self._limit,
            used_by={lane.value: self._lanes.lent[lane] for lane in Lane},
            waiting_by={lane.value: self._lanes.waiting(lane) for lane in Lane},
        )

    def _serve(self) -> None:
        """Hand free connections to those who wait for one and may have it."""
        while self._lanes and (connection := self._take_free()):
            if not (first := self._lanes.next()):
                self._free.appendleft(connection)
                return
            lane, place = first
            self._lend(connection, lane)
            place.set_result(connection)

    def _lend(self, connection: Connection, lane: Lane) -> None:
        self._used.add(connection)
        self._lent[connection] = lane
        self._lanes.lent[lane] += 1
        self._idle.clear()

    def _take_free(self) -> Connection | None:
        while self._free:
            connection = cast(Connection, self._free.popleft())
            if connection.alive():
                return connection
            self._observer.lost("broken")
        return None

    def _drop_dead(self) -> None:
        for connection in [free for free in self._free if free.closed]:
            self._free.remove(connection)
            self._observer.lost("broken")

    def _note_size(self) -> None:
        if len(self._free) + len(self._used) >= self._minsize:
            self._filled.set()

    def _refusal(self, lane: Lane, timeout_s: float) -> DatabaseUnavailable:
        if self._outage:
            return self._outage.error()
        if not self._used:
            return DatabaseUnavailable("PostgreSQL does not answer.")
        return DatabaseBusy(
            f"All {self._lanes.most(lane)} database connections that {lane} may have of this"
            f" worker's {self._limit} were in use for {timeout_s:.3g} s."
        )

    def __repr__(self) -> str:
        status = self.status()
        state = "closed" if self._closing else "waiting for the server" if self._outage else "open"
        return (
            f"<ConnectionPool {state}: {status.used} used, {status.free} free,"
            f" {status.waiting} waiting, {status.minimum}..{status.maximum}>"
        )


def _why_lost(connection: Connection) -> str:
    if connection.idle():
        return "suspect"
    return "broken" if connection.closed and not connection.given_up else "given-up"
