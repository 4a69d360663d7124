"""A connection breaks, falls silent, or leads to a server that takes no writes: who notices."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest

from scripts.devservers import EmbeddedPostgres
from scripts.faultproxy import FaultProxy
from service.database import Database, StatementClass
from service.database.classes import Statement
from service.errors import DatabaseReadOnly, DatabaseUnavailable, QueryTimeout
from tests.support.database import PID, OpenDatabase, Seen, count, deadline
from tests.support.postgres import active, ask, kill_sessions
from tests.support.servers import Servers, execute
from tests.support.waiting import until

SetReadOnly = Callable[..., None]
SLOW = "SELECT pg_sleep(0.8), pg_backend_pid() AS pid"
READ = Statement(SLOW, name="slow_read", kind=StatementClass.READ)
QUICK = Statement(PID, name="quick", kind=StatementClass.QUICK)
WRITE = Statement(
    "INSERT INTO notes SELECT 1 FROM pg_sleep(0.8)", name="slow_write", kind=StatementClass.WRITE
)
NOTE = Statement("INSERT INTO notes VALUES (%(id)s)", name="note", kind=StatementClass.WRITE)


async def running(url: str) -> bool:
    return active(url, containing="pg_sleep(0.8)") == 1


# --- a connection breaks --------------------------------------------------------------------------


async def test_a_read_whose_connection_broke_is_sent_once_more(
    open_database: OpenDatabase, database_url: str
) -> None:
    seen = Seen()
    database = await open_database(database_url, observer=seen, quick_timeout=20.0)
    reading = asyncio.create_task(database.fetch(READ))
    await until(lambda: running(database_url))
    [(first,)] = ask(
        database_url, "SELECT pid FROM pg_stat_activity WHERE query LIKE '%pg_sleep(0.8), pg_b%'"
        " AND pid <> pg_backend_pid()"
    )  # fmt: skip
    kill_sessions(database_url)
    [row] = await reading
    assert row["pid"] != first
    assert seen.repetitions == 1
    assert [outcome for *_, outcome in seen.runs] == ["unavailable", "ok"]


async def test_a_read_is_not_sent_a_third_time(
    open_database: OpenDatabase, database_url: str
) -> None:
    seen = Seen()
    database = await open_database(database_url, observer=seen, quick_timeout=20.0)
    reading = asyncio.create_task(database.fetch(READ))
    for _ in range(2):
        await until(lambda: running(database_url))
        kill_sessions(database_url)
    with pytest.raises(DatabaseUnavailable, match="lost"):
        await reading
    assert len(seen.runs) == 2


async def test_a_write_whose_connection_broke_is_never_repeated(
    open_database: OpenDatabase, database: Database, database_url: str
) -> None:
    seen = Seen()
    writer = await open_database(database_url, observer=seen, write_timeout=20.0)
    writing = asyncio.create_task(writer.execute(WRITE))
    await until(lambda: running(database_url))
    kill_sessions(database_url)
    with pytest.raises(DatabaseUnavailable, match="lost"):
        await writing
    assert (seen.repetitions, len(seen.runs)) == (0, 1)
    assert await count(writer) == 0


async def test_a_transaction_begins_on_another_connection_when_its_first_is_broken(
    open_database: OpenDatabase, database: Database, database_url: str
) -> None:
    """The first word of a transaction changes nothing, so it may be said again."""
    seen = Seen()
    async with FaultProxy.before(database_url) as proxy:
        writer = await open_database(proxy.url, observer=seen, write_timeout=20.0)
        await proxy.drop_reply()

        async def write() -> None:
            async with writer.transaction() as transaction:
                await transaction.execute(NOTE, {"id": 1})

        async def begun() -> bool:
            found = ask(
                database_url,
                "SELECT pid FROM pg_stat_activity WHERE query LIKE 'BEGIN%' AND datname ="
                " current_database() AND state = 'idle in transaction'",
            )
            return len(found) == 1

        writing = asyncio.create_task(write())
        await until(begun)
        await proxy.cut()
        await writing
    assert seen.repetitions == 1
    assert await count(database) == 1


async def test_a_restart_under_load_costs_reads_nothing_and_writes_one_error_a_connection(
    open_database: OpenDatabase,
    private_postgres: Callable[[], EmbeddedPostgres],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("service.database.outage._RESTART_S", 60.0)  # however busy the machine
    pooled = 6
    server = private_postgres()
    database = await open_database(
        server.url, pool_min=pooled, pool_max=pooled, quick_timeout=20.0, write_timeout=20.0,
        acquire_timeout=15.0,
    )  # fmt: skip
    await database.execute("CREATE TABLE notes (id int PRIMARY KEY, text text)")
    failed, served = {"read": 0, "write": 0}, {"read": 0, "write": 0}
    numbers = iter(range(1_000_000))

    async def keep_on(kind: str) -> None:
        while True:
            try:
                if kind == "read":
                    await database.fetch(QUICK)
                else:
                    await database.execute(NOTE, {"id": next(numbers)})
                served[kind] += 1
            except DatabaseUnavailable:
                failed[kind] += 1

    load = [asyncio.create_task(keep_on(kind)) for kind in ("read", "write") for _ in range(8)]
    for end in (server.kill, server.stop):
        await asyncio.sleep(0.1)  # both kinds are in flight
        errors = failed["write"]
        await asyncio.to_thread(end)
        await asyncio.to_thread(server.start)
        before = dict(served)

        async def going_on(before: dict[str, int] = before) -> bool:
            return all(served[kind] > before[kind] + 20 for kind in served)

        await until(going_on)
        assert failed["write"] - errors <= pooled
    for task in load:
        task.cancel()
    await asyncio.gather(*load, return_exceptions=True)
    assert failed["read"] == 0


# --- a connection falls silent --------------------------------------------------------------------


async def test_silence_is_no_slow_statement_and_discredits_every_idle_connection(
    open_database: OpenDatabase, database_url: str
) -> None:
    seen = Seen()
    async with FaultProxy.before(database_url) as proxy:
        database = await open_database(
            proxy.url, pool_min=3, pool_max=4, quick_timeout=0.5, observer=seen
        )
        await proxy.hang()
        began_s = time.monotonic()
        with pytest.raises(DatabaseUnavailable, match="does not answer"):
            await database.fetch(QUICK)
        assert time.monotonic() - began_s < 5
        assert sorted(seen.losses) == ["given-up", "suspect", "suspect"]
        await proxy.forward()
        await until(lambda: answers(database))


async def test_a_request_with_little_time_left_blames_nobody(
    open_database: OpenDatabase, database_url: str
) -> None:
    seen = Seen()
    async with FaultProxy.before(database_url) as proxy:
        database = await open_database(proxy.url, pool_min=3, pool_max=4, observer=seen)
        await proxy.hang()
        with deadline(0.2), pytest.raises(QueryTimeout):
            await database.fetch(QUICK)
        assert seen.losses == ["given-up"]


async def test_an_answer_that_came_while_the_loop_stood_still_counts(
    open_database: OpenDatabase, database_url: str
) -> None:
    seen = Seen()
    database = await open_database(database_url, observer=seen)
    asking = asyncio.create_task(database.fetch(QUICK, timeout_s=0.1))
    await asyncio.sleep(0)
    time.sleep(0.5)  # noqa: ASYNC251  (that is the fault)
    assert len(await asking) == 1
    assert not seen.losses


async def answers(database: Database) -> bool:
    try:
        return bool(await database.fetch(QUICK))
    except DatabaseUnavailable:
        return False


# --- a server that only reads ---------------------------------------------------------------------


@pytest.fixture
def read_only(servers: Servers, database_url: str) -> SetReadOnly:
    """Decides what sessions made from now on may do; those there are stay as they are."""
    name = database_url.rpartition("/")[2]

    def make(*, on: bool) -> None:
        execute(
            servers.postgres.url_of("postgres"),
            f"ALTER DATABASE {name} SET default_transaction_read_only = {on}",
        )

    return make


async def test_reads_go_on_and_writes_are_refused_until_a_server_takes_them(
    open_database: OpenDatabase,
    database: Database,
    database_url: str,
    read_only: Callable[..., None],
) -> None:
    seen = Seen()
    read_only(on=True)
    writer = await open_database(database_url, pool_min=3, observer=seen)
    tried = 60
    for number in range(tried):
        with pytest.raises(DatabaseReadOnly):
            await writer.execute(NOTE, {"id": number})
        assert await answers(writer)
    assert writer.read_only
    sent = sum(name == "note" for name, *_ in seen.runs)
    assert 2 <= sent < tried / 2, "most are refused without asking, and without new connections"

    read_only(on=False)

    async def takes() -> bool:
        try:
            return bool(await writer.execute(NOTE, {"id": 1}))
        except DatabaseReadOnly:
            return False

    await until(takes)
    assert await writer.execute(NOTE, {"id": 2}) == 1


async def test_transactions_are_refused_while_nothing_is_written_too(
    open_database: OpenDatabase,
    database: Database,
    database_url: str,
    read_only: Callable[..., None],
) -> None:
    read_only(on=True)
    writer = await open_database(database_url)
    for _ in range(2):
        with pytest.raises(DatabaseReadOnly):
            async with writer.transaction() as transaction:
                await transaction.execute(NOTE, {"id": 1})
    assert writer.read_only
