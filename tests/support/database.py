"""What the tests of service.database speak of."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Iterator

from service.database import Database
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
