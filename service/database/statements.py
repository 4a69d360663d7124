"""Running one statement on one connection, with a time limit on both ends."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg2
import structlog

from service.database.classes import Statement
from service.database.connection import Connection
from service.database.models import Row
from service.database.observer import Observer
from service.database.translation import own_error
from service.deadline import at_most
from service.errors import (
    DatabaseBusy,
    DatabaseReadOnly,
    DatabaseUnavailable,
    QueryTimeout,
    StatementFailed,
    TollgateError,
)

Params = Mapping[str, Any]

# The server gives up this much before the client does (a tenth of short limits): the error then
# arrives on a connection that stays usable, and says for certain that nothing was written.
_SERVER_MARGIN_S = 0.5
# Nothing heard for so long is silence, whoever had no more time than that.
_SILENCE_S = 1.0
# Asked for less than this, no server would ever be in time.
_LEAST_S = 0.01

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Result:
    """What a statement gave: its rows if it has any, and how many it touched."""

    rows: list[Row]
    count: int
    #: PostgreSQL's word for what was done, such as ``COMMIT``.
    tag: str


class StatementRunner(ABC):
    """The three ways to run a statement; psycopg2 placeholders, ``%(name)s``.

    ``timeout_s`` shortens the limit of the statement's class for this call; the request's deadline
    always does. Raises DatabaseUnavailable, DatabaseBusy, DatabaseReadOnly, QueryTimeout,
    ConstraintViolated, StatementFailed, DeadlineExceeded.
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


@dataclass(frozen=True, slots=True)
class Limit:
    """The time a statement has, and the settings that go with it in the same message.

    They hold for this statement's transaction only, and cost no round trip: also a pooler that
    gives each transaction another connection of the server's passes them on.
    """

    seconds: float
    #: Cut very short by the request's own end: silence until then says nothing of the server.
    cut: bool = False
    #: Other settings for this transaction, as SQL.
    besides: str = ""

    def announced_before(self, statement: str) -> str:
        """The statement, with the server told when to give up: before the client does."""
        limit_ms = max(1, round(server_limit_s(self.seconds) * 1000))
        return f"SET LOCAL statement_timeout = {limit_ms}; {self.besides}{statement}"


def limit_until(
    ends_at_s: float, *, shorter_s: float | None = None, least_s: float = 0.0, besides: str = ""
) -> Limit:
    """What is left until then (``time.monotonic``), or until the request's end.

    Raises DeadlineExceeded when that has passed.
    """
    wanted_s = max(least_s, ends_at_s - time.monotonic(), _LEAST_S)
    if shorter_s is not None:
        wanted_s = min(wanted_s, shorter_s)
    left_s = at_most(wanted_s)
    return Limit(left_s, cut=left_s < min(wanted_s, _SILENCE_S), besides=besides)


class Sender:
    """Sends the statements of one worker: each timed, counted, and in the log if it was slow."""

    def __init__(self, observer: Observer, *, slow_s: float) -> None:
        self._observer = observer
        self._slow_s = slow_s

    async def send(
        self,
        connection: Connection,
        statement: Statement,
        params: Params | None,
        limit: Limit,
        *,
        announce: bool = True,
    ) -> Result:
        """``run``, on a connection lent for it."""
        began_s = time.monotonic()
        outcome, rows = "ok", 0
        try:
            result = await run(connection, statement, params, limit, announce=announce)
            rows = len(result.rows) or result.count
        except TollgateError as error:
            outcome = _outcome(error)
            raise
        except BaseException:
            outcome = "cancelled"
            raise
        finally:
            seconds = time.monotonic() - began_s
            self._observer.ran(statement.name, statement.kind, seconds, outcome)
            if seconds >= self._slow_s:
                # Its parameters are a client's, and stay out.
                log.warning("slow_statement", statement=statement.name,
                            **{"class": statement.kind.value}, duration_ms=round(seconds * 1000),
                            rows=rows, outcome=outcome)  # fmt: skip
        return result


def server_limit_s(limit_s: float) -> float:
    """When the server is to give up, so that it does so before the client."""
    return limit_s - min(_SERVER_MARGIN_S, limit_s / 10)


async def run(
    connection: Connection,
    statement: str,
    params: Params | None,
    limit: Limit,
    *,
    announce: bool = True,
) -> Result:
    """Run one statement within its limit, which the server is told of unless ``announce`` is off.

    A server that says nothing at all, not even that the time is over, is no server: then this
    raises DatabaseUnavailable, ``from`` a TimeoutError.
    """
    text = limit.announced_before(statement) if announce else statement
    try:
        cursor = await connection.cursor(timeout=limit.seconds)
        await cursor.execute(text, params)
        rows = _rows(cursor.description, await cursor.fetchall()) if cursor.description else []
        result = Result(rows, max(0, cursor.rowcount), cursor.statusmessage or "")
        # Only now: closing the cursor of a broken-off query raises, and hides why it broke off.
        cursor.close()
    except TimeoutError as error:
        if limit.cut:
            raise QueryTimeout from error
        raise DatabaseUnavailable("PostgreSQL does not answer.") from error
    except ValueError as error:
        # What psycopg2 itself does not send: a NUL character, half a character.
        raise StatementFailed("A text in a statement's parameters cannot be stored.") from error
    except psycopg2.Error as error:
        own = own_error(error, connection_lost=bool(connection.closed))
        if connection.closed or isinstance(own, DatabaseReadOnly):
            # At once, while the descriptor's number still is this connection's: the loop must not
            # go on watching it when somebody else gets it.
            connection.close()
        raise own from error
    return result


def silent(error: BaseException) -> bool:
    """Did PostgreSQL say nothing at all to a statement?"""
    return isinstance(error, DatabaseUnavailable) and isinstance(error.__cause__, TimeoutError)


def broken(error: BaseException) -> bool:
    """Did the connection break under a statement?"""
    return isinstance(error, DatabaseUnavailable) and isinstance(error.__cause__, psycopg2.Error)


def _outcome(error: TollgateError) -> str:
    if isinstance(error, QueryTimeout):
        return "timeout"
    if isinstance(error, DatabaseReadOnly):
        return "read-only"
    if isinstance(error, DatabaseBusy):
        return "busy"
    return "unavailable" if isinstance(error, DatabaseUnavailable) else "failed"


def _rows(description: Sequence[Any], rows: Sequence[Sequence[Any]]) -> list[Row]:
    names = [column.name for column in description]
    return [dict(zip(names, row, strict=True)) for row in rows]
