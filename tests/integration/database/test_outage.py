"""PostgreSQL away, silent, back again: the worker waits, says so, and goes on by itself."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest
from structlog.testing import capture_logs

from scripts.devservers import EmbeddedPostgres
from scripts.faultproxy import FaultProxy
from service.database import Database
from service.errors import DatabaseUnavailable
from tests.support.database import OpenDatabase
from tests.support.waiting import until

StartPostgres = Callable[[], EmbeddedPostgres]


async def answers(database: Database) -> bool:
    try:
        return await database.fetch("SELECT 1 AS one") == [{"one": 1}]
    except DatabaseUnavailable:
        return False


async def test_start_up_without_a_server_waits_says_so_and_goes_on_in_the_background(
    open_database: OpenDatabase, private_postgres: StartPostgres
) -> None:
    server = private_postgres()
    url = server.url
    server.stop()
    with capture_logs() as lines:
        database = await open_database(url, wait_s=0.5, pool_min=3, acquire_timeout=50.0)
        assert not database.ready
        began = time.monotonic()
        with pytest.raises(DatabaseUnavailable, match="cannot be reached"):
            await database.fetch("SELECT 1")
        assert time.monotonic() - began < 20  # no longer than a restart, and not a full wait
        server.start()
        await until(lambda: answers(database))

        async def ready() -> bool:
            return database.ready and database.status().free == 3

        await until(ready)
    events = [line["event"] for line in lines]
    assert events.index("database_waiting") < events.index("database_reached")
    assert "database_not_ready" in events
    password = url.split(":")[2].split("@")[0]
    assert password not in str(lines) + repr(database)


async def test_a_restarted_server_is_used_again(
    open_database: OpenDatabase, private_postgres: StartPostgres
) -> None:
    server = private_postgres()
    database = await open_database(server.url, pool_min=3)
    server.kill()
    with pytest.raises(DatabaseUnavailable):
        await database.fetch("SELECT 1")
    server.start()
    await until(lambda: answers(database))
    assert all(await asyncio.gather(*(answers(database) for _ in range(8))))


async def test_a_server_that_stands_still_costs_the_query_its_limit_and_no_more(
    open_database: OpenDatabase, private_postgres: StartPostgres
) -> None:
    server = private_postgres()
    database = await open_database(server.url)
    server.suspend()
    try:
        with pytest.raises(DatabaseUnavailable, match="does not answer"):
            await database.fetch("SELECT 1", timeout_s=0.2)
        with pytest.raises(DatabaseUnavailable):
            await asyncio.wait_for(database.fetch("SELECT 1"), 20)
    finally:
        server.resume()
    await until(lambda: answers(database))


async def test_a_full_server_is_an_outage_only_for_whom_it_has_no_room(
    open_database: OpenDatabase, private_postgres: Callable[..., EmbeddedPostgres]
) -> None:
    server = private_postgres(max_connections=10)
    database = await open_database(server.url, pool_min=1, pool_max=20, acquire_timeout=20.0)
    rows = await asyncio.gather(
        *(database.fetch("SELECT pg_backend_pid() AS pid, pg_sleep(0.1)") for _ in range(25))
    )
    assert len(rows) == 25


async def test_a_reset_connection_is_told_at_once_and_replaced(
    open_database: OpenDatabase, database_url: str
) -> None:
    async with FaultProxy.before(database_url) as proxy:
        database = await open_database(proxy.url)
        asking = asyncio.create_task(database.fetch("SELECT pg_sleep(30)"))

        async def under_way() -> bool:
            return database.status().used == 1

        await until(under_way)
        await proxy.cut()
        with pytest.raises(DatabaseUnavailable, match="lost"):
            await asyncio.wait_for(asking, 20)
        assert await answers(database)


async def test_an_outage_is_told_once_and_not_with_every_attempt(
    open_database: OpenDatabase, database_url: str
) -> None:
    async with FaultProxy.before(database_url) as proxy:
        await proxy.reset()
        with capture_logs() as lines:
            await open_database(proxy.url, wait_s=0.01)

            async def attempted() -> bool:
                return proxy.accepted >= 4

            await until(attempted)
    assert [line["event"] for line in lines].count("database_waiting") == 1


async def test_a_dead_server_is_not_hammered(
    open_database: OpenDatabase, database_url: str
) -> None:
    async with FaultProxy.before(database_url) as proxy:
        await proxy.reset()
        database = await open_database(proxy.url, wait_s=0.3, pool_min=10, pool_max=20)
        calls = 300
        for _ in range(calls):
            with pytest.raises(DatabaseUnavailable):
                await database.fetch("SELECT 1")
        assert proxy.accepted < calls / 10
