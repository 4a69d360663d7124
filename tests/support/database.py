"""What the tests of service.database speak of."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Iterator

from service.database import Database
from service.database.classes import Lane, StatementClass
from service.database.observer import Nobody
from service.database.pool import ConnectionPool
from service.deadline import CURRENT, Deadline
from tests.support.broken.aiopg_pool import BarePool

AnyPool = ConnectionPool | BarePool
OpenPool = Callable[..., Awaitable[AnyPool]]
OpenDatabase = Callable[..., Awaitable[Database]]

PID = "SELECT pg_backend_pid() AS pid"


@contextlib.contextmanager
def deadline(after_s: float) -> Iterator[None]:
    token = CURRENT.set(Deadline.after(after_s))
    yield
    CURRENT.reset(token)


async def count(database: Database) -> int:
    [row] = await database.fetch("SELECT count(*) AS n FROM notes")
    return int(row["n"])


class Seen(Nobody):
    """Remembers what a database told of itself."""

    def __init__(self) -> None:
        self.waits: list[tuple[Lane, float]] = []
        self.refusals: list[tuple[Lane, str]] = []
        self.losses: list[str] = []
        self.runs: list[tuple[str, StatementClass, str]] = []
        self.repetitions = 0

    def waited(self, lane: Lane, seconds: float) -> None:
        self.waits.append((lane, seconds))

    def refused(self, lane: Lane, reason: str) -> None:
        self.refusals.append((lane, reason))

    def lost(self, cause: str) -> None:
        self.losses.append(cause)

    def ran(self, name: str, kind: StatementClass, seconds: float, outcome: str) -> None:
        self.runs.append((name, kind, outcome))

    def repeated(self) -> None:
        self.repetitions += 1
