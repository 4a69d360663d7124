"""The connection budget against a real server's own numbers."""

from __future__ import annotations

import contextlib

import psycopg2
import pytest
from structlog.testing import capture_logs

from service.database.budget import connection_budget
from tests.support.database import OpenDatabase
from tests.support.postgres import ask
from tests.support.servers import Servers, execute


@pytest.mark.parametrize(("workers", "level"), [(2, "info"), (50, "warning")])
async def test_too_many_connections_are_warned_of_with_the_arithmetic(
    open_database: OpenDatabase, database_url: str, workers: int, level: str
) -> None:
    database = await open_database(database_url)
    with capture_logs() as lines:
        report = await connection_budget(database, workers=workers, pool_max=20)
    [line] = [line for line in lines if line["event"] == "connection_budget"]
    assert line["log_level"] == level
    assert f"{workers} workers x (20 in the pool + 1 to listen) connections" in line["summary"]
    assert line["needed"] == workers * 21
    [(maximum,)] = ask(database_url, "SELECT current_setting('max_connections')::int")
    assert (report.maximum, report.reserved) == (maximum, 3)


async def test_connections_of_others_count_and_our_own_do_not(
    open_database: OpenDatabase, database_url: str
) -> None:
    database = await open_database(database_url, pool_min=4)
    before = await connection_budget(database, workers=1, pool_max=4)
    with contextlib.closing(psycopg2.connect(database_url, application_name="psql")):
        after = await connection_budget(database, workers=1, pool_max=4)
    assert after.others == before.others + 1
    assert before.others < 4


async def test_the_limit_of_the_database_itself_is_heeded(
    open_database: OpenDatabase, database_url: str, servers: Servers
) -> None:
    name = database_url.rpartition("/")[2]
    execute(servers.postgres.url_of("postgres"), f"ALTER DATABASE {name} CONNECTION LIMIT 17")
    database = await open_database(database_url)
    assert (await connection_budget(database, workers=1, pool_max=20)).maximum == 17
