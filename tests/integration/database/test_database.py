"""Statements, transactions and time limits on a healthy server."""

from __future__ import annotations

import asyncio
import os
import random
import socket
import time
import uuid
from datetime import UTC, datetime, timedelta

import pytest
from structlog.testing import capture_logs

from service.database import Database, StatementClass
from service.database.classes import Statement
from service.errors import (
    ConstraintViolated,
    DatabaseBusy,
    DatabaseReadOnly,
    DatabaseUnavailable,
    DeadlineExceeded,
    QueryTimeout,
    StatementFailed,
)
from tests.support.database import PID, OpenDatabase, Seen, count, deadline
from tests.support.postgres import active, kill_sessions
from tests.support.waiting import until

# --- values --------------------------------------------------------------------------------------


async def test_values_arrive_as_python_knows_them(database: Database) -> None:
    number = uuid.uuid4()
    row = await database.fetch_one(
        """SELECT %(number)s::uuid AS u, %(text)s::json AS j, %(text)s::jsonb AS b,
                  timestamptz '2026-01-02 03:04:05+02' AS t, '100 %%' AS percent""",
        {"number": number, "text": '{"a": [1, null, "ü"]}'},
    )
    assert row == {
        "u": number,
        "j": {"a": [1, None, "ü"]},
        "b": {"a": [1, None, "ü"]},
        "t": datetime(2026, 1, 2, 1, 4, 5, tzinfo=UTC),
        "percent": "100 %",
    }
    assert row["t"].utcoffset() == timedelta(0)


async def test_execute_counts_rows_and_fetch_one_may_find_none(database: Database) -> None:
    assert await database.execute("INSERT INTO notes VALUES (1, 'a'), (2, 'b')") == 2
    assert await database.execute("UPDATE notes SET text = '' WHERE id > 5") == 0
    assert await database.fetch_one("SELECT * FROM notes WHERE id > 5") is None
    assert await database.fetch("SELECT id FROM notes ORDER BY id") == [{"id": 1}, {"id": 2}]


# --- time limits ---------------------------------------------------------------------------------


async def test_shorter_limit_ends_the_statement_on_the_server_and_keeps_the_connection(
    database: Database, database_url: str
) -> None:
    before = await database.fetch(PID)
    with pytest.raises(QueryTimeout):
        await database.execute("INSERT INTO notes SELECT 1 FROM pg_sleep(1)", timeout_s=0.3)
    assert active(database_url, containing="pg_sleep(1)") == 0
    assert await database.fetch(PID) == before
    assert await count(database) == 0


async def test_the_limit_of_one_statement_is_not_the_next_ones(database: Database) -> None:
    await database.fetch(PID, timeout_s=0.1)
    await database.fetch("SELECT pg_sleep(0.3)")
    async with database.transaction() as transaction:
        await transaction.fetch(PID, timeout_s=0.1)
        await transaction.fetch("SELECT pg_sleep(0.3)")


async def test_the_deadline_of_the_request_ends_a_query(database: Database) -> None:
    with deadline(0.3), pytest.raises(QueryTimeout):
        await database.fetch("SELECT pg_sleep(30)")


async def test_nothing_is_begun_after_the_deadline(database: Database) -> None:
    with deadline(-0.1), pytest.raises(DeadlineExceeded):
        await database.execute("INSERT INTO notes VALUES (1)")
    assert database.status().used == 0


async def test_a_locked_row_is_not_waited_for_longer_than_a_request_may(
    database: Database,
) -> None:
    await database.execute("INSERT INTO notes VALUES (1)")
    async with database.transaction() as holder:
        await holder.fetch("SELECT * FROM notes FOR UPDATE")
        with pytest.raises(QueryTimeout, match="locked"):
            await database.fetch("SELECT * FROM notes FOR UPDATE")


async def test_the_server_is_told_its_limits(
    open_database: OpenDatabase, database_url: str
) -> None:
    database = await open_database(database_url, query_timeout=60.0)
    names = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout",
             "client_connection_check_interval", "application_name", "TimeZone")  # fmt: skip
    async with database.transaction(StatementClass.LONG) as transaction:
        rows = {name: await transaction.fetch_one(f"SHOW {name}") for name in names}
    told = [next(iter(row.values())) for row in rows.values() if row]
    assert 59000 < int(told[0].removesuffix("ms")) <= 59500
    assert told[1:] == ["2s", "10s", "1s", "tollgate", "UTC"]


async def test_the_kernel_is_told_to_look_after_the_peer(database: Database) -> None:
    wanted = {"TCP_KEEPIDLE": 5, "TCP_KEEPINTVL": 2, "TCP_KEEPCNT": 3, "TCP_USER_TIMEOUT": 10_000}
    known = [name for name in wanted if hasattr(socket, name)]  # not every system has them all
    async with database.transaction() as transaction:
        connection = transaction._connection
        with socket.socket(fileno=os.dup(connection._conn.fileno())) as raw:
            options = {
                name: raw.getsockopt(socket.IPPROTO_TCP, getattr(socket, name)) for name in known
            }
            assert raw.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    assert options == {name: wanted[name] for name in known}


async def test_what_runs_on_behalf_of_its_class_ends_with_its_class(
    open_database: OpenDatabase, database_url: str
) -> None:
    """On the server, before the worker gives up: the connection stays fit for use."""
    seen = Seen()
    database = await open_database(
        database_url, observer=seen, quick_timeout=0.3, write_timeout=0.4, batch_timeout=0.5
    )
    for kind, limit_s in (("quick", 0.3), ("read", 0.3), ("write", 0.4), ("batch", 0.5)):
        sleep = Statement("SELECT pg_sleep(30)", name=kind, kind=StatementClass(kind))
        began_s = time.monotonic()
        with pytest.raises(QueryTimeout):
            await database.fetch(sleep)
        assert time.monotonic() - began_s > limit_s * 0.8
    assert not seen.losses
    assert [outcome for *_, outcome in seen.runs] == ["timeout"] * 4


async def test_a_transaction_as_a_whole_ends_with_its_class(
    open_database: OpenDatabase, database_url: str
) -> None:
    database = await open_database(database_url, write_timeout=0.5)

    async def many_short_ones() -> None:
        async with database.transaction() as transaction:
            for _ in range(30):
                await transaction.fetch("SELECT pg_sleep(0.1)")

    with pytest.raises(QueryTimeout):
        await many_short_ones()
    assert database.status().used == 0


async def test_waiting_for_a_connection_counts_as_time_of_the_statement(
    open_database: OpenDatabase, database_url: str
) -> None:
    database = await open_database(database_url, pool_max=1, quick_timeout=0.5)
    quick = Statement("SELECT pg_sleep(0.4)", name="quick", kind=StatementClass.QUICK)
    first, second = await asyncio.gather(
        *(database.fetch(quick) for _ in range(2)), return_exceptions=True
    )
    assert not isinstance(first, BaseException)
    assert isinstance(second, DatabaseBusy | QueryTimeout)


async def test_a_slow_statement_is_named_and_what_it_was_given_is_not(
    open_database: OpenDatabase, database_url: str
) -> None:
    database = await open_database(database_url, slow_query=0.2)
    slow = Statement(
        "SELECT %(word)s AS word, pg_sleep(%(for_s)s)", name="a_slow_one", kind=StatementClass.READ
    )
    with capture_logs() as lines:
        await database.fetch(slow, {"word": "confidential", "for_s": 0})
        await database.fetch(slow, {"word": "confidential", "for_s": 0.3})
        with pytest.raises(QueryTimeout):
            await database.fetch(slow, {"word": "confidential", "for_s": 5}, timeout_s=0.4)
    told = [line for line in lines if line["event"] == "slow_statement"]
    assert [(line["statement"], line["class"], line["rows"], line["outcome"]) for line in told] == [
        ("a_slow_one", "read", 1, "ok"),
        ("a_slow_one", "read", 0, "timeout"),
    ]
    assert 300 <= told[0]["duration_ms"] < 30_000
    assert "confidential" not in str(lines)


# --- errors --------------------------------------------------------------------------------------


async def test_a_broken_rule_is_named(database: Database) -> None:
    await database.execute("INSERT INTO notes VALUES (1)")
    with pytest.raises(ConstraintViolated) as raised:
        await database.execute("INSERT INTO notes VALUES (1)")
    assert raised.value.constraint == "notes_pkey"


async def test_a_wrong_statement_is_our_own_fault(database: Database) -> None:
    with pytest.raises(StatementFailed) as raised:
        await database.execute("SELEKT 1")
    assert "SELEKT" in str(raised.value.__cause__)


@pytest.mark.parametrize("text", ["a\x00b", "a\ud800b"], ids=["nul", "half-a-character"])
async def test_a_text_that_cannot_be_sent_is_our_own_fault_and_costs_no_connection(
    database: Database, text: str
) -> None:
    before = await database.fetch_one(PID)
    with pytest.raises(StatementFailed):
        await database.fetch("SELECT %(text)s AS text", {"text": text})
    assert await database.fetch_one(PID) == before


async def test_deadlocked_transactions_are_told_to_try_again(database: Database) -> None:
    await database.execute("INSERT INTO notes VALUES (1, ''), (2, '')")
    met = asyncio.Barrier(2)

    async def lock(first: int, second: int) -> None:
        async with database.transaction() as transaction:
            await transaction.execute("SET LOCAL deadlock_timeout = '10ms'")
            take = "SELECT * FROM notes WHERE id = %(id)s FOR UPDATE"
            await transaction.fetch(take, {"id": first})
            await met.wait()
            await transaction.fetch(take, {"id": second})

    outcomes = await asyncio.gather(lock(1, 2), lock(2, 1), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes if outcome] == [DatabaseBusy]


async def test_after_a_failover_every_old_connection_is_dropped(database: Database) -> None:
    """A session that is read-only stands in for a primary that has become a standby."""
    async with database.transaction(), database.transaction():
        pass  # two connections now
    for _ in range(2):
        await database.execute("SET default_transaction_read_only = on")
    with pytest.raises(DatabaseReadOnly):
        await database.execute("INSERT INTO notes VALUES (1)")
    assert await database.execute("INSERT INTO notes VALUES (1)") == 1
    assert await database.execute("INSERT INTO notes VALUES (2)") == 1


# --- the pool under pressure ---------------------------------------------------------------------


async def test_waiting_for_a_connection_ends_with_busy(
    open_database: OpenDatabase, database_url: str
) -> None:
    database = await open_database(database_url, pool_max=2, acquire_timeout=0.2)
    async with database.transaction(), database.transaction():
        with pytest.raises(DatabaseBusy, match="All 1 database connections that reads"):
            await database.fetch(PID)
    await database.fetch(PID)


async def test_waiting_for_a_connection_ends_with_the_deadline(
    open_database: OpenDatabase, database_url: str
) -> None:
    database = await open_database(database_url, pool_max=1, acquire_timeout=29.0)
    async with asyncio.timeout(15), database.transaction():
        with deadline(0.2), pytest.raises(DatabaseBusy):
            await database.fetch(PID)


async def test_connections_are_lent_in_the_order_of_asking(
    open_database: OpenDatabase, database_url: str
) -> None:
    database = await open_database(database_url, pool_max=1)
    served: list[int] = []

    async def ask_once(number: int) -> None:
        await database.fetch(PID)
        served.append(number)

    async with database.transaction():
        waiting = [asyncio.create_task(ask_once(number)) for number in range(8)]
        await until(lambda: database.status().waiting == 8)
    await asyncio.gather(*waiting)
    assert served == list(range(8))


async def test_a_burst_opens_no_more_than_the_maximum(
    open_database: OpenDatabase, database_url: str
) -> None:
    database = await open_database(database_url, pool_min=2, pool_max=5)
    rows = await asyncio.gather(*(database.fetch(f"{PID}, pg_sleep(0.05)") for _ in range(40)))
    assert len({row["pid"] for [row] in rows}) <= 5
    status = database.status()
    assert (status.used, status.waiting, status.minimum, status.maximum) == (0, 0, 2, 5)
    assert status.size == status.free <= 5


async def test_cancelled_callers_leak_nothing_and_mix_up_no_answers(
    open_database: OpenDatabase, database_url: str
) -> None:
    database = await open_database(database_url, pool_min=2, pool_max=4, acquire_timeout=20.0)
    chance = random.Random(7)

    async def call(number: int) -> None:
        row = await database.fetch_one("SELECT %(n)s AS n, pg_sleep(0.005)", {"n": number})
        assert row is not None
        assert row["n"] == number

    tasks = [asyncio.create_task(call(number)) for number in range(200)]
    for task in chance.sample(tasks, 80):
        await asyncio.sleep(chance.random() * 0.01)
        task.cancel()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} <= {type(None), asyncio.CancelledError}
    assert sum(outcome is None for outcome in outcomes) >= 120
    status = database.status()
    assert (status.used, status.waiting) == (0, 0)
    assert status.size <= 4


async def test_killed_idle_connections_are_replaced_without_a_failure(
    open_database: OpenDatabase, database_url: str
) -> None:
    database = await open_database(database_url, pool_min=4, pool_max=4)
    assert kill_sessions(database_url) == 4
    await asyncio.gather(*(database.fetch(PID) for _ in range(8)))

    async def full_again() -> bool:
        return database.status().free == 4

    await until(full_again)


async def test_a_connection_lost_amid_a_statement_is_told_and_the_statement_not_repeated(
    database: Database, database_url: str
) -> None:
    task = asyncio.create_task(database.execute("INSERT INTO notes SELECT 1 FROM pg_sleep(30)"))

    async def running() -> bool:
        return active(database_url, containing="pg_sleep(30)") == 1

    await until(running)
    kill_sessions(database_url)
    with pytest.raises(DatabaseUnavailable, match="lost"):
        await task
    assert active(database_url, containing="pg_sleep(30)") == 0
    assert await count(database) == 0


# --- being looked at -----------------------------------------------------------------------------


async def test_the_pool_is_reported_regularly(
    open_database: OpenDatabase, database_url: str
) -> None:
    with capture_logs() as lines:
        database = await open_database(database_url, status_interval_s=0.02, pool_min=2)

        async def reported() -> bool:
            return [line["event"] for line in lines].count("database_pool") >= 2

        await until(reported)
        lines.clear()  # the first may be older than the connections
        await until(reported)
    line = next(line for line in lines if line["event"] == "database_pool")
    assert line == {"event": "database_pool", "log_level": "info", "size": 2, "free": 2, "used": 0,
                    "waiting": 0, "minimum": 2, "maximum": 4,
                    "used_by": {"requests": 0, "reads": 0, "loops": 0},
                    "waiting_by": {"requests": 0, "reads": 0, "loops": 0}}  # fmt: skip
    assert "open: 0 used, 2 free, 0 waiting, 2..4" in repr(database)


async def test_a_closed_database_says_so(open_database: OpenDatabase, database_url: str) -> None:
    database = await open_database(database_url)
    ready_before = database.ready
    await database.close()
    await database.close()
    assert (ready_before, database.ready) == (True, False)
    assert database.status().size == 0
    with pytest.raises(DatabaseUnavailable, match="not open"):
        await database.fetch(PID)
