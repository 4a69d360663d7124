"""Connections of a worker that has so many clients that their descriptors are beyond select()."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import time
from collections.abc import Iterator

import pytest

from service.database import Database
from service.errors import DatabaseUnavailable
from tests.support.database import PID, OpenDatabase
from tests.support.postgres import active, ask, kill_sessions
from tests.support.waiting import until

BEYOND_SELECT = 1024


@pytest.fixture
def many_open() -> Iterator[None]:
    """As a thousand clients would have it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2 * BEYOND_SELECT), hard))
    held: list[int] = []
    try:
        while not held or held[-1] < BEYOND_SELECT:
            held.append(os.open(os.devnull, os.O_RDONLY))
        yield
    finally:
        for descriptor in held:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_a_connection_that_breaks_is_told_at_once_and_replaced(
    many_open: None, open_database: OpenDatabase, database_url: str
) -> None:
    database = await open_database(database_url)
    waiting = asyncio.create_task(database.fetch("SELECT pg_sleep(30)"))

    async def asked() -> bool:
        return active(database_url, containing="pg_sleep") == 1

    await until(asked)
    began_s = time.monotonic()
    assert kill_sessions(database_url)
    with pytest.raises(DatabaseUnavailable):
        await waiting
    assert time.monotonic() - began_s < 10  # and not after the statement's 30
    assert await answer(database)


async def test_an_idle_connection_that_has_broken_is_not_lent(
    many_open: None, open_database: OpenDatabase, database_url: str
) -> None:
    database = await open_database(database_url, pool_min=2)
    kill_sessions(database_url)
    assert await answer(database)
    assert ask(database_url, "SELECT 1") == [(1,)]


async def answer(database: Database) -> bool:
    with contextlib.suppress(DatabaseUnavailable):
        return bool(await database.fetch(PID))
    return bool(await database.fetch(PID))
