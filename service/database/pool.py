"""The connections of one worker: aiopg's pool, with its faults in lending and opening repaired.

aiopg 1.4.0 connects while it holds the lock that borrowers and returners need, forgets to wake
those who wait when a connection comes back closed, and may wait for ever in closing. Here:

- connections are opened by tasks of the pool's own. A borrower takes a free connection at once,
  whatever the openers are waiting for; else it queues, first come first served, and is handed the
  next connection that comes back or is opened, whichever is earlier;
- every wait is bounded: a borrower's by its time-out, closing by its own;
- waiting is a queue of futures, not a Condition: Python before 3.13 can lose a Condition's wake-up
  when a waiter is cancelled (gh-112202);
- a dead server is asked by one opener at a time, at growing, jittered intervals, while borrowers
  are refused at once; the first success lets everybody in again.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from collections import deque
from collections.abc import Callable, Generator
from typing import cast

import aiopg.pool
import backoff
import structlog
from aiopg.utils import create_completed_future

from service.database.connection import Connection, connect
from service.database.dsn import Dsn
from service.database.models import PoolStatus
from service.errors import DatabaseBusy, DatabaseUnavailable

# Enough to follow a burst; a fleet that starts does not fall upon the server all at once.
_OPENED_AT_ONCE = 4
# While the server is away it is asked again at least this often: the longest it goes unnoticed.
_LONGEST_PAUSE_S = 2.0
_FIRST_PAUSE_S = 0.1
# An outage is told when it starts, and again this often while it lasts.
_REMINDER_S = 10.0

log = structlog.get_logger()


class ConnectionPool(aiopg.pool.Pool):
    """Between ``minsize`` and ``maxsize`` connections; opens, replaces and lends them."""

    def __init__(self, dsn: Dsn, *, minsize: int, maxsize: int, connect_timeout_s: float) -> None:
        super().__init__(
            str(dsn), minsize, maxsize, connect_timeout_s,
            enable_json=False, enable_hstore=False, enable_uuid=True,
            echo=False, on_connect=None, pool_recycle=-1,
        )  # fmt: skip
        self._server = dsn
        self._limit = maxsize
        self._queue: deque[asyncio.Future[Connection]] = deque()
        self._openers: set[asyncio.Task[Connection]] = set()
        self._filled = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._outage: _Outage | None = None

    # --- borrowing ----------------------------------------------------------------------------

    async def borrow(self, timeout_s: float) -> Connection:
        """A live connection, to be given back with ``release``.

        Raises DatabaseUnavailable at once while the server cannot be reached, and within
        ``timeout_s`` when it is found to be silent; DatabaseBusy when all are out for that long.
        """
        if self._closing:
            raise DatabaseUnavailable("The database connections are being closed.")
        if not self._queue and (connection := self._take_free()):
            self._top_up()  # in place of those that have died meanwhile
            return connection
        if self._outage and not self._used:
            self._top_up()  # unless it is waiting or trying already
            raise self._outage.error()
        place: asyncio.Future[Connection] = self._loop.create_future()
        self._queue.append(place)
        self._top_up()
        try:
            async with asyncio.timeout(timeout_s):
                return await place
        except BaseException as error:
            if place in self._queue:
                self._queue.remove(place)
            elif place.done() and not place.cancelled() and not place.exception():
                self.release(place.result())  # handed over in the tick in which we gave up
            if isinstance(error, TimeoutError):
                raise self._refusal(timeout_s) from error
            raise

    def release(self, conn: aiopg.Connection) -> asyncio.Future[None]:
        """Take a connection back, and hand it on if it is fit for use.

        One in an open transaction or amid a query is closed, which rolls back on the server.
        """
        if conn in self._terminated:
            self._terminated.discard(conn)
        else:
            self._used.remove(conn)
            conn = cast(Connection, conn)
            if self._closing or not conn.idle():
                conn.close()
                self._top_up()
            else:
                self._hand_over(conn)
        if not self._used:
            self._idle.set()
            self._refuse_hopeless()
        return create_completed_future(self._loop)

    def discard_idle(self) -> None:
        """Close every free connection: what they lead to is no longer what they were opened for."""
        while self._free:
            self._free.pop().close()
        self._top_up()

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
        """Start as many openers as the minimum and the queue ask for."""
        self._drop_dead()
        wanted = max(self._minsize, len(self._used) + len(self._queue))
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
        if self._outage:
            log.info("database_reached", server=str(self._server))
            self._outage.end()
            self._outage = None
        self._hand_over(connection)
        self._note_size()

    def _failed(self, cause: BaseException) -> None:
        outage = self._outage = self._outage or _Outage()
        pause_s = outage.begin_pause(cause, self._loop, self._top_up)
        if outage.worth_telling(self._loop.time()):
            log.warning("database_waiting", server=str(self._server), error=_one_line(cause),
                        retry_in_s=round(pause_s, 3), waiting=len(self._queue))  # fmt: skip
        self._refuse_hopeless()

    def _refuse_hopeless(self) -> None:
        """Refuse those who wait, unless something is out that may come back and serve them."""
        if not self._outage or self._used:
            return
        while self._queue:
            place = self._queue.popleft()
            if not place.done():
                place.set_exception(self._outage.error())

    # --- closing ------------------------------------------------------------------------------

    async def shut(self, timeout_s: float) -> None:
        """Lend no more; wait ``timeout_s`` for what is out, then close it under its users."""
        self.close()
        if self._outage:
            self._outage.end()
        while self._queue:
            place = self._queue.popleft()
            if not place.done():
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

    def status(self) -> PoolStatus:
        return PoolStatus(
            size=self.size,
            free=len(self._free),
            used=len(self._used),
            waiting=len(self._queue),
            minimum=self._minsize,
            maximum=self._limit,
        )

    def _take_free(self) -> Connection | None:
        while self._free:
            connection = cast(Connection, self._free.popleft())
            if connection.alive():
                self._used.add(connection)
                self._idle.clear()
                return connection
        return None

    def _hand_over(self, connection: Connection) -> None:
        """Give a connection nobody uses to the first who waits, or set it free."""
        while self._queue:
            place = self._queue.popleft()
            if not place.done():
                self._used.add(connection)
                self._idle.clear()
                place.set_result(connection)
                return
        self._free.append(connection)

    def _drop_dead(self) -> None:
        for connection in [free for free in self._free if free.closed]:
            self._free.remove(connection)

    def _note_size(self) -> None:
        if len(self._free) + len(self._used) >= self._minsize:
            self._filled.set()

    def _refusal(self, timeout_s: float) -> DatabaseUnavailable:
        if self._outage:
            return self._outage.error()
        if not self._used:
            return DatabaseUnavailable("PostgreSQL does not answer.")
        return DatabaseBusy(
            f"All {self._limit} database connections of this worker were in use for"
            f" {timeout_s:.3g} s."
        )

    def __repr__(self) -> str:
        status = self.status()
        state = "closed" if self._closing else "waiting for the server" if self._outage else "open"
        return (
            f"<ConnectionPool {state}: {status.used} used, {status.free} free,"
            f" {status.waiting} waiting, {status.minimum}..{status.maximum}>"
        )


class _Outage:
    """From the first failed attempt to connect to the next successful one."""

    def __init__(self) -> None:
        self._cause: BaseException | None = None
        self._pauses: Generator[float, None, None] = backoff.expo(
            factor=_FIRST_PAUSE_S, max_value=_LONGEST_PAUSE_S
        )
        next(self._pauses)  # the library's generators give nothing the first time
        self._wake: asyncio.TimerHandle | None = None
        self._told_at_s: float | None = None

    def error(self) -> DatabaseUnavailable:
        """What a borrower is told; a new one each time, for a traceback belongs to one raise."""
        error = DatabaseUnavailable(f"PostgreSQL cannot be reached: {_one_line(self._cause)}")
        error.__cause__ = self._cause
        return error

    @property
    def pausing(self) -> bool:
        return self._wake is not None

    def begin_pause(
        self,
        cause: BaseException,
        loop: asyncio.AbstractEventLoop,
        then: Callable[[], None],
    ) -> float:
        """Note the failure, and call ``then`` after the pause that is returned."""

        def wake() -> None:
            self._wake = None
            then()

        self._cause = cause
        if self._wake:  # another opener has failed in the same breath
            return self._wake.when() - loop.time()
        pause_s: float = backoff.full_jitter(next(self._pauses))
        self._wake = loop.call_later(pause_s, wake, context=contextvars.Context())
        return pause_s

    def worth_telling(self, now_s: float) -> bool:
        if self._told_at_s is not None and now_s - self._told_at_s < _REMINDER_S:
            return False
        self._told_at_s = now_s
        return True

    def end(self) -> None:
        if self._wake:
            self._wake.cancel()
            self._wake = None


def _one_line(error: BaseException | None) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return " ".join(str(error).split()) or type(error).__name__
