"""The whole way of a job through PgBouncer in transaction mode, and what that must not change."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from service.database import Database, StatementClass
from service.database.classes import Statement
from service.database.migrate import migrate, read_migrations
from service.errors import DatabaseUnavailable, QueryTimeout
from service.jobs.models import JobState
from service.settings import DatabaseSettings
from tests.support.house import House, house
from tests.support.pgbouncer import PROGRAM, PgBouncer
from tests.support.postgres import active, ask
from tests.support.servers import Servers, execute, scratch_directory
from tests.support.waiting import until

pytestmark = pytest.mark.skipif(
    PROGRAM is None, reason="pgbouncer is not installed (Debian: apt-get install pgbouncer)"
)
POOLED = {"pooler": True, "pool_min": 1, "pool_max": 8, "acquire_timeout": 10.0,
          "quick_timeout": 10.0, "write_timeout": 10.0}  # fmt: skip
PID = Statement("SELECT pg_backend_pid() AS pid", name="pid", kind=StatementClass.QUICK)


@pytest.fixture
def pgbouncer(database_url: str) -> Iterator[PgBouncer]:
    """Before a fresh database, with two connections to it."""
    with (
        scratch_directory() as home,
        PgBouncer(home / "pgbouncer", before=database_url, pool_size=2) as running,
    ):
        yield running


@pytest.fixture
async def database(pgbouncer: PgBouncer) -> AsyncIterator[Database]:
    database = Database(DatabaseSettings(**POOLED), url=pgbouncer.url)
    try:
        await database.open(wait_s=10)
        yield database
    finally:
        await database.close()


@pytest.fixture
async def home(pgbouncer: PgBouncer, database_url: str, redis_url: str) -> AsyncIterator[House]:
    settings = {**POOLED, "listen_url": database_url}
    async with house(pgbouncer.url, redis_url, database=settings) as home:
        yield home


async def test_jobs_are_sold_paid_run_and_told_of(home: House, database_url: str) -> None:
    sold = [await home.start(identifier_from_purchaser=f"{n:016x}") for n in range(8)]
    for started in sold:
        assert started.job.state is JobState.AWAITING_PAYMENT
        home.act(started.job.id, "lock")
    await home.reconciler.changes()
    await home.run_all()
    done = await asyncio.gather(*(home.job(started.job.id) for started in sold))
    assert {job.state for job in done} == {JobState.COMPLETED}
    assert all(job.result and job.created_at.utcoffset().total_seconds() == 0 for job in done)  # type: ignore[union-attr]
    again = await home.start(identifier_from_purchaser=f"{0:016x}")
    assert (again.replayed, again.job.id) == (True, sold[0].job.id)
    [(through,)] = ask(
        database_url,
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        " AND application_name = 'tollgate-all'",
    )
    assert through <= 2, "the pooler's own connections, not one for each of ours"


async def test_one_clients_statements_go_over_several_connections(database: Database) -> None:
    """That what is tested here is tested: nothing may be kept by a connection."""
    rows = await asyncio.gather(
        *(database.fetch(Statement(f"{PID}, pg_sleep(0.05)", name="pid", kind=PID.kind))
          for _ in range(8))
    )  # fmt: skip
    assert len({row["pid"] for [row] in rows}) == 2


async def test_statements_bring_their_limits_and_leave_none_behind(
    database: Database, database_url: str, pgbouncer: PgBouncer
) -> None:
    with pytest.raises(QueryTimeout):
        await database.fetch("SELECT pg_sleep(20)", timeout_s=0.3)
    assert active(database_url, containing="pg_sleep(20)") == 0
    async with database.transaction() as transaction:
        await transaction.fetch(PID, timeout_s=0.1)
        shown = {
            name: (await transaction.fetch(f"SHOW {name}"))[0]
            for name in ("lock_timeout", "idle_in_transaction_session_timeout", "TimeZone")
        }
        await transaction.fetch("SELECT pg_sleep(0.3)")
    assert [value for row in shown.values() for value in row.values()] == ["2s", "10s", "UTC"]
    # Nothing of it is left on the server's own connections, which other clients share.
    for name in ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"):
        assert ask(pgbouncer.url, f"SHOW {name}") == [("0",)]


async def test_times_are_in_utc_whatever_the_server_speaks(
    pgbouncer: PgBouncer, database_url: str, servers: Servers
) -> None:
    name = database_url.rpartition("/")[2]
    execute(servers.postgres.url, f"ALTER DATABASE {name} SET timezone = 'Asia/Tokyo'")
    await asyncio.to_thread(pgbouncer.restart)  # what it had open speaks UTC still
    database = Database(DatabaseSettings(**POOLED), url=pgbouncer.url)
    await database.open(wait_s=10)
    try:
        for _ in range(4):
            [row] = await database.fetch("SELECT now() AS at, pg_sleep(0.01)")
            assert row["at"].utcoffset().total_seconds() == 0
    finally:
        await database.close()


async def test_replicas_migrate_once_through_the_pooler(
    pgbouncer: PgBouncer, database_url: str
) -> None:
    """A lock of the session would stay behind on a connection that others go on using."""
    execute(database_url, "DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    by_each = await asyncio.gather(
        *(migrate(pgbouncer.url, DatabaseSettings(**POOLED)) for _ in range(3))
    )
    assert sorted(name for names in by_each for name in names) == [
        migration.name for migration in read_migrations()
    ]
    assert ask(database_url, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == [(0,)]


async def test_a_pooler_nobody_told_us_of_is_named_in_the_failure(pgbouncer: PgBouncer) -> None:
    database = Database(DatabaseSettings(pool_min=1, pool_max=2), url=pgbouncer.url)
    await database.open(wait_s=0.1)
    try:
        with pytest.raises(DatabaseUnavailable, match=r"set database\.pooler"):
            await database.fetch(PID)
    finally:
        await database.close()


async def test_a_restarted_pooler_is_used_again(database: Database, pgbouncer: PgBouncer) -> None:
    await database.fetch(PID)
    await asyncio.to_thread(pgbouncer.restart)

    async def answers() -> bool:
        try:
            return bool(await database.fetch(PID))
        except DatabaseUnavailable:
            return False

    await until(answers)
