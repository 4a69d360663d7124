"""What reads, requests and job loops can do to each other through one pool."""

from __future__ import annotations

import asyncio
import contextlib
import time

import pytest

from service.database import Database, StatementClass
from service.database.classes import Lane, Statement
from service.errors import DatabaseBusy
from tests.support.database import OpenDatabase, OpenPool, Seen
from tests.support.waiting import until


def statement(kind: StatementClass, seconds: float = 0.0) -> Statement:
    text = f"SELECT pg_sleep({seconds})" if seconds else "SELECT 1 AS one"
    return Statement(text, name=f"a_{kind}", kind=kind)


async def keep_asking(database: Database, kind: StatementClass) -> None:
    while True:
        with contextlib.suppress(DatabaseBusy):
            await database.fetch(statement(kind, 0.2))


@pytest.mark.parametrize(
    ("flood", "others"),
    [
        (StatementClass.READ, [StatementClass.QUICK, StatementClass.WRITE, StatementClass.BATCH]),
        (StatementClass.BATCH, [StatementClass.QUICK, StatementClass.WRITE]),
        (StatementClass.QUICK, [StatementClass.BATCH]),
    ],
)
async def test_a_flood_of_one_lane_keeps_no_other_waiting(
    open_database: OpenDatabase,
    database_url: str,
    flood: StatementClass,
    others: list[StatementClass],
) -> None:
    seen = Seen()
    database = await open_database(database_url, pool_min=5, pool_max=5, observer=seen)
    flooders = [asyncio.create_task(keep_asking(database, flood)) for _ in range(30)]
    try:
        await until(lambda: database.status().waiting_by[flood.lane] > 20)
        for kind in others:
            await database.fetch(statement(kind))
            assert kind.lane not in {lane for lane, _ in seen.waits}
    finally:
        for flooder in flooders:
            flooder.cancel()
        await asyncio.gather(*flooders, return_exceptions=True)


async def test_without_a_reserve_a_flood_of_reads_keeps_everybody_out(
    open_database: OpenDatabase, database_url: str
) -> None:
    """That the test above can fail."""
    database = await open_database(
        database_url, pool_min=5, pool_max=5, acquire_timeout=0.3, reserve=0
    )
    reads = [
        asyncio.create_task(database.fetch(statement(StatementClass.READ, 1.0))) for _ in range(5)
    ]
    await asyncio.sleep(0.2)
    with pytest.raises(DatabaseBusy, match="All 5 database connections that requests may have"):
        await database.fetch(statement(StatementClass.QUICK))
    await asyncio.gather(*reads)


async def test_the_queue_has_an_end_beyond_which_nobody_waits(
    open_pool: OpenPool, database_url: str
) -> None:
    seen = Seen()
    pool = await open_pool(database_url, maxsize=1, waiting_max=3, observer=seen)
    connection = await pool.borrow(5.0)
    waiting = [asyncio.create_task(pool.borrow(5.0)) for _ in range(3)]
    await asyncio.sleep(0)
    began_s = time.monotonic()
    with pytest.raises(DatabaseBusy, match="Too many wait"):
        await pool.borrow(120.0)
    assert time.monotonic() - began_s < 12
    assert seen.refusals == [(Lane.REQUESTS, "full")]
    for waiter in waiting:
        pool.release(connection)
        connection = await waiter
    pool.release(connection)
    assert len(seen.waits) == 3


async def test_a_read_gets_what_another_read_lost(
    open_database: OpenDatabase, database_url: str
) -> None:
    """A connection that comes back closed makes room in its lane, and a free one takes it."""
    database = await open_database(database_url, pool_min=4, pool_max=4)
    reads = [
        asyncio.create_task(database.fetch(statement(StatementClass.READ, 30))) for _ in range(2)
    ]
    await asyncio.sleep(0.1)
    waiting = asyncio.create_task(database.fetch(statement(StatementClass.READ)))
    await asyncio.sleep(0.1)
    assert (database.status().free, database.status().waiting) == (2, 1)
    reads[0].cancel()
    assert await asyncio.wait_for(waiting, 10) == [{"one": 1}]
    reads[1].cancel()
    await asyncio.gather(*reads, return_exceptions=True)

    async def full_again() -> bool:
        return database.status().free == 4

    await until(full_again)
