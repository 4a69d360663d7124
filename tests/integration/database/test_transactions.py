"""Transactions: whole or not at all, and nothing left behind on the server."""

from __future__ import annotations

import asyncio

import pytest

from service.database import Database
from service.errors import ConstraintViolated, DeadlineExceeded, StatementFailed
from tests.support.database import PID, count, deadline
from tests.support.postgres import ask
from tests.support.waiting import until


async def no_open_transactions(url: str) -> bool:
    return not ask(
        url,
        "SELECT FROM pg_stat_activity WHERE state LIKE 'idle in transaction%'"
        " AND datname = current_database()",
    )


async def test_a_transaction_commits_on_leaving(database: Database) -> None:
    async with database.transaction() as transaction:
        await transaction.execute("INSERT INTO notes VALUES (1)")
        assert await count(database) == 0
    assert await count(database) == 1


async def test_a_transaction_rolls_back_on_an_exception_and_keeps_its_connection(
    database: Database,
) -> None:
    before = await database.fetch(PID)

    async def fail() -> None:
        async with database.transaction() as transaction:
            await transaction.execute("INSERT INTO notes VALUES (1)")
            raise KeyError

    with pytest.raises(KeyError):
        await fail()
    assert await database.fetch(PID) == before
    assert await count(database) == 0


async def test_a_cancelled_transaction_leaves_nothing_on_the_server(
    database: Database, database_url: str
) -> None:
    begun = asyncio.Event()

    async def work() -> None:
        async with database.transaction() as transaction:
            await transaction.execute("INSERT INTO notes VALUES (1)")
            begun.set()
            await asyncio.sleep(30)  # cancelled long before

    task = asyncio.create_task(work())
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await count(database) == 0
    await until(lambda: no_open_transactions(database_url))


async def test_a_commit_that_was_none_is_an_error(database: Database) -> None:
    async def go_on_regardless() -> None:
        async with database.transaction() as transaction:
            await transaction.execute("INSERT INTO notes VALUES (1)")
            with pytest.raises(ConstraintViolated):
                await transaction.execute("INSERT INTO notes VALUES (1)")

    with pytest.raises(StatementFailed, match="rolled back"):
        await go_on_regardless()
    assert await count(database) == 0


async def test_a_transaction_left_open_by_hand_is_rolled_back_on_return(
    database: Database, database_url: str
) -> None:
    await database.execute("BEGIN; INSERT INTO notes VALUES (1)")
    await until(lambda: no_open_transactions(database_url))
    assert await count(database) == 0


async def test_a_transaction_that_outlives_its_deadline_is_rolled_back(
    database: Database,
) -> None:
    async def outlive() -> None:
        async with database.transaction() as transaction:
            await transaction.execute("INSERT INTO notes VALUES (1)")
            await asyncio.sleep(0.5)

    with deadline(0.4), pytest.raises(DeadlineExceeded):
        await outlive()
    assert await count(database) == 0
