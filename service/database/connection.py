"""One PostgreSQL connection: aiopg's, with its faults in connecting and waiting repaired.

Five faults of aiopg 1.4.0 end here, because each lies in how it waits for the socket:

- it keeps the loop watching a socket that libpq closes and reopens on its own (next address of a
  host, TLS refused, connection refused): the connection hangs on asyncio, and under uvloop the
  next one to get that descriptor fails with a RuntimeError. Here nothing is watched while libpq
  is at work, and what is watched is asked for anew after each step;
- libpq ignores ``connect_timeout`` in asynchronous mode: ours is a loop timer;
- a query cancelled by the server reached the caller as ``CancelledError``, as if the task had been
  cancelled: psycopg2's own error passes on;
- ``asyncio.wait_for`` may swallow a cancellation before Python 3.12: ``asyncio.timeout`` does not;
- when a connection breaks it looks at the descriptor with ``select``, which takes none above 1023:
  in a worker with a thousand clients the query went on waiting. Here any descriptor will do.

It leans on private names, so aiopg is pinned to exactly 1.4.0 and tests/unit/database watches them.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import time
import weakref
from typing import Any

import psycopg2
from aiopg.connection import Connection as AiopgConnection
from psycopg2.extensions import POLL_OK, POLL_READ, POLL_WRITE, TRANSACTION_STATUS_IDLE
from psycopg2.extras import register_uuid

from service.database.dsn import Dsn


class Connection(AiopgConnection):
    """An aiopg connection that waits correctly; made by ``connect``."""

    #: time.monotonic()
    opened_at_s = 0.0
    #: Closed because nobody waited for its answer any longer?
    given_up = False

    async def _connect(self) -> Connection:
        self._loop.remove_reader(self._conn.fileno())
        try:
            async with asyncio.timeout(self._timeout):
                while (state := self._conn.poll()) != POLL_OK:
                    await self._socket_ready(state)
        except BaseException:
            self._fileno = None  # libpq's to close, and nobody watches it
            self._waiter = None
            self._close()
            raise
        self._fileno = self._conn.fileno()
        self._loop.add_reader(self._fileno, self._ready, self._weakref)
        self._waiter = None
        register_uuid(conn_or_curs=self._conn)  # type: ignore[no-untyped-call]
        return self

    async def _socket_ready(self, state: int) -> None:
        """Wait once for the socket libpq uses at this moment."""
        descriptor = self._conn.fileno()
        ready = self._loop.create_future()
        if state == POLL_READ:
            add, remove = self._loop.add_reader, self._loop.remove_reader
        elif state == POLL_WRITE:
            add, remove = self._loop.add_writer, self._loop.remove_writer
        else:
            raise psycopg2.OperationalError(f"unexpected state {state} while connecting")
        add(descriptor, _settle, ready)
        try:
            await ready
        finally:
            remove(descriptor)

    @staticmethod
    def _ready(weak_self: weakref.ref[Any]) -> None:
        try:
            AiopgConnection._ready(weak_self)
        except ValueError as out_of_range:
            broken = out_of_range.__context__
            if not isinstance(broken, psycopg2.Error) or (connection := weak_self()) is None:
                raise
            connection._break(broken)

    def _break(self, cause: psycopg2.Error) -> None:
        """What aiopg does with a connection that has broken, for any descriptor."""
        if self._fileno is not None and not _open(self._fileno):
            with contextlib.suppress(OSError):
                self._loop.remove_reader(self._fileno)
                self._loop.remove_writer(self._fileno)
            self._fileno, self._writing = None, False
        self._notifies_proxy.close(cause)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(cause)

    async def _poll(self, waiter: asyncio.Future[None], timeout: float) -> None:
        self._ready(self._weakref)
        try:
            async with asyncio.timeout(timeout):
                await waiter
        except (asyncio.CancelledError, TimeoutError) as error:
            if isinstance(error, TimeoutError) and self._answered(waiter):
                return  # the loop stood still: the answer and the end of its time came together
            # The answer is still to come: nobody else may ever read it from this connection.
            self.given_up = True
            self._close()
            raise
        finally:
            self._waiter = None

    def _answered(self, waiter: asyncio.Future[None]) -> bool:
        """Is the whole answer here after all? Raises what it says, if that is an error."""
        if waiter.done() and not waiter.cancelled():
            waiter.result()
            return True
        return not self.closed and bool(self._conn.poll() == POLL_OK)

    def alive(self) -> bool:
        """Is it open, as far as this end has been told? Reads what has arrived; sends nothing.

        A server that drops an idle connection says why and then closes: two readings.
        """
        while not self.closed and _readable(self._conn.fileno()):
            self._ready(self._weakref)
        return not self.closed

    async def speak_utc(self, timeout_s: float) -> None:
        """Times in UTC, where that cannot be asked for in connecting: a thing poolers do keep."""
        try:
            cursor = await self.cursor(timeout=timeout_s)
            await cursor.execute("SET TimeZone = 'UTC'")
            cursor.close()
        except BaseException:
            self.close()
            raise

    def idle(self) -> bool:
        """Open, and in no transaction."""
        return not self.closed and self.raw.get_transaction_status() == TRANSACTION_STATUS_IDLE


async def connect(dsn: Dsn, *, timeout_s: float) -> Connection:
    """Open one connection within ``timeout_s``, the look-up of its host included.

    Raises TimeoutError, OSError (the name cannot be resolved) and psycopg2.Error.
    """
    async with asyncio.timeout(timeout_s):
        text = await dsn.resolve()
        raw: Any = Connection(
            text, timeout_s, enable_json=False, enable_hstore=False, enable_uuid=False
        )
        connection: Connection = await raw
        connection.opened_at_s = time.monotonic()
        if dsn.pooler:
            await connection.speak_utc(timeout_s)
        return connection


def _settle(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)


def _open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def _readable(descriptor: int) -> bool:
    poll = select.poll()  # unlike select.select, it takes descriptors above 1023
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(0))
