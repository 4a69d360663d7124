"""PostgreSQL as this worker sees it: statements, transactions, and whether it is there at all."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import asdict
from typing import TYPE_CHECKING

import structlog

from service.database.connection import Connection
from service.database.dsn import Dsn
from service.database.models import PoolStatus
from service.database.pool import ConnectionPool
from service.database.statements import Params, Result, StatementRunner, run, server_limit_s
from service.deadline import at_most
from service.errors import DatabaseReadOnly, DatabaseUnavailable, StatementFailed, TollgateError
from service.tasks import end

if TYPE_CHECKING:
    from service.settings import DatabaseSettings

# What queries in hand get when the worker closes; the requests they serve have had their time.
_CLOSE_TIMEOUT_S = 5.0
# Tidying up after a failed transaction is not worth more: closing the connection does the same.
_ROLLBACK_TIMEOUT_S = 1.0

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
    ) -> None:
        self._settings = settings
        self._dsn = Dsn.parse(
            url,
            application_name=application_name,
            statement_timeout_s=server_limit_s(settings.query_timeout),
        )
        self._status_interval_s = status_interval_s
        self._pool: ConnectionPool | None = None
        self._reporter: asyncio.Task[None] | None = None

    async def open(self, *, wait_s: float = 3.0) -> None:
        """Fill the pool; when that takes longer than ``wait_s``, go on in the background."""
        self._pool = ConnectionPool(
            self._dsn,
            minsize=self._settings.pool_min,
            maxsize=self._settings.pool_max,
            connect_timeout_s=self._settings.connect_timeout,
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

    @property
    def ready(self) -> bool:
        """Has the pool been full once?"""
        return self._pool is not None and self._pool.filled

    def status(self) -> PoolStatus:
        """The pool at this moment; no I/O."""
        if self._pool:
            return self._pool.status()
        return PoolStatus(0, 0, 0, 0, self._settings.pool_min, self._settings.pool_max)

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        """Commits on leaving; rolls back on any exception, cancellation included.

        DatabaseUnavailable and QueryTimeout from the commit itself leave open whether it was done.
        """
        async with self._borrowed() as connection:
            transaction = Transaction(connection, self._settings)
            try:
                await transaction.begin()
                yield transaction
                await transaction.commit()
            except Exception:
                await transaction.rollback()
                raise
            # Cancelled, it stays open here; the pool closes what comes back so, and the server
            # rolls back.

    async def _run(self, statement: str, params: Params | None, timeout_s: float | None) -> Result:
        wanted_s = timeout_s or self._settings.query_timeout
        async with self._borrowed() as connection:
            limit_s = at_most(wanted_s)
            announce = limit_s < self._settings.query_timeout
            return await run(connection, statement, params, limit_s=limit_s, announce=announce)

    @contextlib.asynccontextmanager
    async def _borrowed(self) -> AsyncIterator[Connection]:
        if not (pool := self._pool):
            raise DatabaseUnavailable("The database connections are not open.")
        connection = await pool.borrow(at_most(self._settings.acquire_timeout))
        try:
            yield connection
        except DatabaseReadOnly:
            # After a failover every connection made before it leads to the wrong server.
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


class Transaction(StatementRunner):
    """One connection between BEGIN and COMMIT; made by ``Database.transaction``."""

    def __init__(self, connection: Connection, settings: DatabaseSettings) -> None:
        self._connection = connection
        self._query_timeout_s = settings.query_timeout

    async def _run(self, statement: str, params: Params | None, timeout_s: float | None) -> Result:
        limit_s = at_most(timeout_s or self._query_timeout_s)
        # Always announced: an earlier statement's shorter limit would hold on in the transaction.
        return await run(self._connection, statement, params, limit_s=limit_s, announce=True)

    async def begin(self) -> None:
        await self._command("BEGIN", at_most(self._query_timeout_s))

    async def commit(self) -> None:
        """Raises StatementFailed if PostgreSQL rolled back instead, which it does silently."""
        if await self._command("COMMIT", at_most(self._query_timeout_s)) == "ROLLBACK":
            raise StatementFailed("The transaction was rolled back: a statement in it had failed.")

    async def rollback(self) -> None:
        """Never raises; a connection that cannot roll back is closed, which does the same."""
        if self._connection.closed or self._connection.idle():
            return
        try:
            await self._command("ROLLBACK", _ROLLBACK_TIMEOUT_S)
        except TollgateError:
            self._connection.close()

    async def _command(self, command: str, limit_s: float) -> str:
        return (await run(self._connection, command, None, limit_s=limit_s, announce=False)).tag
