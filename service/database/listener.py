"""What PostgreSQL tells by NOTIFY: one connection of this worker's own, never one of the pool.

A notification is lost with the connection it was meant for, so every channel is told of a gap each
time one is made: what it knows may be old from then on. The connection is driven here, by
psycopg2 itself: aiopg's queue loses a notification whose reader is cancelled as it comes. A server
that is gone shows at once, one that is silent when it leaves a small question unanswered.

A pooler that lends its connections by transaction (PgBouncer) cannot pass notifications on:
``database.listen_url`` names the server itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psycopg2
import structlog
from psycopg2.extensions import POLL_OK, POLL_READ, quote_ident

from service.database.connection import Connection, connect
from service.database.dsn import Dsn
from service.tasks import end, persist

if TYPE_CHECKING:
    from service.settings import DatabaseSettings

#: Nothing heard for so long: the server is asked whether it is still there ...
QUIET_S = 3.0
#: ... and has this long to answer; LISTEN has as long.
ANSWER_S = 2.0
#: A server that is away is looked for at least this often.
LONGEST_PAUSE_S = 2.0

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _Hearer:
    told: Callable[[str], None]
    gap: Callable[[], None]


class Listener:
    """Listens from ``start`` to ``stop``, through every loss of the connection.

    Raises ConfigurationError for a URL that is none.
    """

    def __init__(self, settings: DatabaseSettings, *, url: str, application_name: str) -> None:
        self._dsn = Dsn.parse(
            url,
            application_name=application_name,
            statement_timeout_s=ANSWER_S,
            setting="database.listen_url" if settings.listen_url else "database.url",
        )
        self._connect_timeout_s = settings.connect_timeout
        self._hearers: dict[str, list[_Hearer]] = {}
        self._listening: asyncio.Task[None] | None = None
        self._connected = False
        self._loss_told = False

    def on(self, channel: str, told: Callable[[str], None], *, gap: Callable[[], None]) -> None:
        """``told(payload)`` of each notification; ``gap()`` whenever some may have been missed.

        ``gap`` is called after every connecting, the first included. Both must be quick. What is
        sent on a channel within one transaction comes once for each different payload.
        """
        if self._listening:
            raise RuntimeError("say what to listen for before start")
        self._hearers.setdefault(channel, []).append(_Hearer(told, gap))

    @property
    def connected(self) -> bool:
        """Would a notification sent now be heard, as far as is known?"""
        return self._connected

    async def start(self) -> None:
        """Connect in the background, if anybody wants to hear, and go on until ``stop``."""
        if not self._hearers:
            return
        self._listening = asyncio.create_task(
            persist(self._session, failed=self._failed, longest_pause_s=LONGEST_PAUSE_S),
            name="database-listener",
        )

    async def stop(self) -> None:
        """Close the connection. May be called twice, and without a start."""
        task, self._listening = self._listening, None
        if task:
            await end(task)

    def _failed(self, error: Exception) -> None:
        if not isinstance(error, psycopg2.Error | OSError | TimeoutError):
            log.error("database_listener_failed", server=str(self._dsn), exc_info=error)
        elif not self._loss_told:
            self._loss_told = True
            log.warning("database_listener_lost", server=str(self._dsn), error=_one_line(error))

    async def _session(self) -> None:
        """One connection, from its making to its loss, which raises."""
        connection = await connect(self._dsn, timeout_s=self._connect_timeout_s)
        try:
            channels = [quote_ident(channel, connection.raw) for channel in self._hearers]
            await _say(connection, "; ".join(f"LISTEN {channel}" for channel in channels))
            self._connected, self._loss_told = True, False
            log.info("database_listener_listening", server=str(self._dsn), channels=channels)
            for hearers in self._hearers.values():
                for hearer in hearers:
                    _tell(hearer.gap)
            await self._hear(connection)
        finally:
            self._connected = False
            # Before anything else may get its descriptor.
            connection.close()

    async def _hear(self, connection: Connection) -> None:
        while True:
            self._pass_on(connection)
            try:
                async with asyncio.timeout(QUIET_S):
                    await connection._socket_ready(POLL_READ)
            except TimeoutError:
                await _say(connection, "SELECT 1")
            else:
                connection.raw.poll()

    def _pass_on(self, connection: Connection) -> None:
        heard = connection.raw.notifies
        while heard:
            notification = heard.pop(0)
            for hearer in self._hearers.get(notification.channel, ()):
                _tell(hearer.told, notification.payload)

    def __repr__(self) -> str:
        state = "listening" if self._connected else "connecting" if self._listening else "stopped"
        return f"<Listener {state} {', '.join(self._hearers)}>"


async def _say(connection: Connection, statement: str) -> None:
    """Run a statement and forget what it answers; notifications that come with it stay."""
    async with asyncio.timeout(ANSWER_S):
        cursor = connection.raw.cursor()  # psycopg2 wants it kept until the answer is here
        cursor.execute(statement)
        while (state := connection.raw.poll()) != POLL_OK:
            await connection._socket_ready(state)
        # Only now: closing the cursor of a broken-off statement hides why it broke off.
        cursor.close()


def _tell(hearer: Callable[..., None], *what: str) -> None:
    try:
        hearer(*what)
    except Exception:
        # The others still want to hear, and so does this one the next time.
        log.exception("database_listener_hearer_failed")


def _one_line(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return " ".join(str(error).split()) or type(error).__name__
