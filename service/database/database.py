"""PostgreSQL as this worker sees it: statements, transactions, and whether it is there at all."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict
from typing import TYPE_CHECKING

import structlog

from service.database.classes import Lane, Statement, StatementClass, limits
from service.database.connection import Connection
from service.database.dsn import Dsn
from service.database.lanes import reserves
from service.database.models import PoolStatus
from service.database.observer import Nobody, Observer
from service.database.outage import ReadOnly
from service.database.pool import ConnectionPool
from service.database.statements import (
    Params,
    Result,
    Sender,
    StatementRunner,
    broken,
    limit_until,
    server_limit_s,
    silent,
)
from service.database.transaction import Transaction
from service.deadline import at_most
from service.errors import DatabaseReadOnly, DatabaseUnavailable
from service.tasks import end

if TYPE_CHECKING:
    from service.settings import DatabaseSettings

# What queries in hand get when the worker closes; the requests they serve have had their time.
_CLOSE_TIMEOUT_S = 5.0
# Of its time a statement may spend at most this part waiting for a connection.
_WAITING_SHARE = 0.75

PING = Statement("SELECT 1 AS one", name="ping", kind=StatementClass.QUICK)

log = structlog.get_logger()


class Database(StatementRunner):
    """The door to PostgreSQL: every statement runs on its own, unless in ``transaction()``."""

    def __init__(
        self,
        settings: DatabaseSettings,
        *,
        url: str,
        application_name: str = "tollgate",
        status_interval_s: float = 60.0,
        observer: Observer | None = None,
    ) -> None:
        self._settings = settings
        self._limits = limits(settings)
        self._dsn = Dsn.parse(
            url,
            application_name=application_name,
            statement_timeout_s=server_limit_s(settings.query_timeout),
            pooler=settings.pooler,
        )
        self._status_interval_s = status_interval_s
        self._observer: Observer = observer or Nobody()
        self._observer.watch(self.status)
        self._sender = Sender(self._observer, slow_s=settings.slow_query)
        self._read_only = ReadOnly()
        self._on_reached: list[Callable[[], None]] = []
        self._pool: ConnectionPool | None = None
        self._reporter: asyncio.Task[None] | None = None

    async def open(self, *, wait_s: float = 3.0) -> None:
        """Fill the pool; when that takes longer than ``wait_s``, go on in the background."""
        self._pool = ConnectionPool(
            self._dsn,
            minsize=self._settings.pool_min,
            maxsize=self._settings.pool_max,
            connect_timeout_s=self._settings.connect_timeout,
            reserve=self._settings.reserve,
            observer=self._observer,
            reached=self._tell_reached,
        )
        self._reporter = asyncio.create_task(self._report(), name="database-pool-status")
        try:
            if not await self._pool.fill(wait_s):
                log.warning("database_not_ready", server=str(self._dsn), waited_s=wait_s)
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Close all connections; queries in hand get a few seconds. May be called twice."""
        pool, reporter = self._pool, self._reporter
        self._pool = self._reporter = None
        if reporter:
            await end(reporter)
        if pool:
            await pool.shut(_CLOSE_TIMEOUT_S)

    def on_reached(self, told: Callable[[], None]) -> None:
        """Call this whenever PostgreSQL can be reached again after it could not."""
        self._on_reached.append(told)

    def _tell_reached(self) -> None:
        for told in self._on_reached:
            told()

    @property
    def ready(self) -> bool:
        """Has the pool been full once?"""
        return self._pool is not None and self._pool.filled

    @property
    def read_only(self) -> bool:
        """Was the last write refused because the server takes none?"""
        return self._read_only.lasts

    def waited_s(self) -> float:
        """For how long the first request waits for a connection now; no I/O."""
        return self._pool.waited_s(Lane.REQUESTS) if self._pool else 0.0

    def status(self) -> PoolStatus:
        """The pool at this moment; no I/O."""
        if self._pool:
            return self._pool.status()
        none = dict.fromkeys((lane.value for lane in reserves(1, None)), 0)
        return PoolStatus(0, 0, 0, 0, self._settings.pool_min, self._settings.pool_max, none, none)

    async def ping(self, *, timeout_s: float) -> None:
        """Ask PostgreSQL for nothing; raises as ``fetch`` does where it does not answer."""
        await self.fetch(PING, timeout_s=timeout_s)

    @contextlib.asynccontextmanager
    async def transaction(
        self, kind: StatementClass = StatementClass.WRITE
    ) -> AsyncIterator[Transaction]:
        """Commits on leaving; rolls back on any exception, cancellation included.

        The limit of its class holds for the whole of it. DatabaseUnavailable and QueryTimeout from
        the commit itself leave open whether it was done.
        """
        ends_at_s = time.monotonic() + self._limits[kind]
        async with self._begun(kind, ends_at_s) as transaction:
            try:
                yield transaction
                await transaction.commit()
            except Exception:
                await transaction.rollback()
                raise
            # Cancelled, it stays open here; the pool closes what comes back so, and the server
            # rolls back.
        self._read_only.end()

    @contextlib.asynccontextmanager
    async def _begun(self, kind: StatementClass, ends_at_s: float) -> AsyncIterator[Transaction]:
        """A transaction on a connection that has been heard of since it was lent: on another one,
        where the first is found broken by its very first word, which changes nothing.
        """
        async with contextlib.AsyncExitStack() as stack:
            connection = await stack.enter_async_context(self._borrowed(kind, ends_at_s))
            transaction = Transaction(connection, self._sender, ends_at_s, self._dsn.besides)
            try:
                await transaction.begin()
            except DatabaseUnavailable as error:
                if not broken(error):
                    raise
                self._observer.repeated()
                await stack.aclose()
                connection = await stack.enter_async_context(self._borrowed(kind, ends_at_s))
                transaction = Transaction(connection, self._sender, ends_at_s, self._dsn.besides)
                await transaction.begin()
            yield transaction

    async def _run(self, text: str, params: Params | None, timeout_s: float | None) -> Result:
        statement = Statement.of(text)
        limit_s = self._limits[statement.kind]
        ends_at_s = time.monotonic() + min(limit_s, timeout_s or limit_s)
        try:
            return await self._once(statement, params, ends_at_s)
        except DatabaseUnavailable as error:
            if not (statement.kind.repeatable and broken(error)):
                raise
        # Only read, and never answered: sent again it does no harm, and the caller notices nothing.
        self._observer.repeated()
        return await self._once(statement, params, ends_at_s)

    async def _once(self, statement: Statement, params: Params | None, ends_at_s: float) -> Result:
        async with self._borrowed(statement.kind, ends_at_s) as connection:
            limit = limit_until(ends_at_s, besides=self._dsn.besides)
            result = await self._sender.send(connection, statement, params, limit)
        if statement.kind.writes:
            self._read_only.end()
        return result

    @contextlib.asynccontextmanager
    async def _borrowed(self, kind: StatementClass, ends_at_s: float) -> AsyncIterator[Connection]:
        if not (pool := self._pool):
            raise DatabaseUnavailable("The database connections are not open.")
        if kind.writes and self._read_only.pausing(time.monotonic()):
            raise DatabaseReadOnly
        left_s = (ends_at_s - time.monotonic()) * _WAITING_SHARE
        wait_s = at_most(min(self._settings.acquire_timeout, left_s))
        connection = await pool.borrow(wait_s, kind.lane)
        try:
            yield connection
        except DatabaseReadOnly:
            # After a failover every connection made before it leads to the wrong server.
            now_s = time.monotonic()
            self._read_only.refused(opened_at_s=connection.opened_at_s, now_s=now_s)
            pool.discard_all()
            raise
        except DatabaseUnavailable as error:
            if silent(error):
                pool.discard_idle()
            raise
        finally:
            pool.release(connection)

    async def _report(self) -> None:
        while True:
            await asyncio.sleep(self._status_interval_s)
            log.info("database_pool", **asdict(self.status()))

    def __repr__(self) -> str:
        return f"<Database {self._dsn} {self._pool!r}>"
