"""Running one statement on one connection, with a time limit on both ends."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg2

from service.database.connection import Connection
from service.database.models import Row
from service.database.translation import own_error
from service.errors import DatabaseReadOnly, QueryTimeout

Params = Mapping[str, Any]

# The server gives up this much before the client does (a tenth of short limits): the error then
# arrives on a connection that stays usable, and says for certain that nothing was written.
_SERVER_MARGIN_S = 0.5


@dataclass(frozen=True, slots=True)
class Result:
    """What a statement gave: its rows if it has any, and how many it touched."""

    rows: list[Row]
    count: int
    #: PostgreSQL's word for what was done, such as ``COMMIT``.
    tag: str


class StatementRunner(ABC):
    """The three ways to run a statement; psycopg2 placeholders, ``%(name)s``.

    ``timeout_s`` shortens the query limit for this call; the request's deadline always does.
    Raises DatabaseUnavailable, DatabaseBusy, DatabaseReadOnly, QueryTimeout, ConstraintViolated,
    StatementFailed, DeadlineExceeded.
    """

    @abstractmethod
    async def _run(self, statement: str, params: Params | None, timeout_s: float | None) -> Result:
        """Run it where this runner runs its statements."""

    async def fetch(
        self, statement: str, params: Params | None = None, *, timeout_s: float | None = None
    ) -> list[Row]:
        """All rows."""
        return (await self._run(statement, params, timeout_s)).rows

    async def fetch_one(
        self, statement: str, params: Params | None = None, *, timeout_s: float | None = None
    ) -> Row | None:
        """The first row, if there is one."""
        rows = (await self._run(statement, params, timeout_s)).rows
        return rows[0] if rows else None

    async def execute(
        self, statement: str, params: Params | None = None, *, timeout_s: float | None = None
    ) -> int:
        """How many rows were touched."""
        return (await self._run(statement, params, timeout_s)).count


def server_limit_s(limit_s: float) -> float:
    """When the server is to give up, so that it does so before the client."""
    return limit_s - min(_SERVER_MARGIN_S, limit_s / 10)


async def run(
    connection: Connection,
    statement: str,
    params: Params | None,
    *,
    limit_s: float,
    announce: bool,
) -> Result:
    """Run one statement within ``limit_s``.

    ``announce`` tells the server of the limit, for this statement's transaction only; without it
    the connection's own limit holds. It travels with the statement and costs no round trip.
    """
    if announce:
        limit_ms = max(1, round(server_limit_s(limit_s) * 1000))
        statement = f"SET LOCAL statement_timeout = {limit_ms}; {statement}"
    try:
        cursor = await connection.cursor(timeout=limit_s)
        await cursor.execute(statement, params)
        rows = _rows(cursor.description, await cursor.fetchall()) if cursor.description else []
        result = Result(rows, max(0, cursor.rowcount), cursor.statusmessage or "")
        # Only now: closing the cursor of a broken-off query raises, and hides why it broke off.
        cursor.close()
    except TimeoutError as error:
        raise QueryTimeout from error
    except psycopg2.Error as error:
        own = own_error(error, connection_lost=bool(connection.closed))
        if connection.closed or isinstance(own, DatabaseReadOnly):
            # At once, while the descriptor's number still is this connection's: the loop must not
            # go on watching it when somebody else gets it.
            connection.close()
        raise own from error
    return result


def _rows(description: Sequence[Any], rows: Sequence[Sequence[Any]]) -> list[Row]:
    names = [column.name for column in description]
    return [dict(zip(names, row, strict=True)) for row in rows]
