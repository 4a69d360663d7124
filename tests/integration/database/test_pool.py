"""The pool's own promises, where a statement would hide them."""

from __future__ import annotations

import asyncio

import pytest
from structlog.testing import capture_logs

from scripts.faultproxy import FaultProxy
from service.database.pool import ConnectionPool
from service.errors import DatabaseUnavailable
from tests.support.database import OpenPool
from tests.support.postgres import ask, kill_sessions
from tests.support.waiting import until


async def test_a_caller_cancelled_as_it_is_served_passes_its_connection_on(
    open_pool: OpenPool, database_url: str
) -> None:
    pool = await open_pool(database_url, maxsize=1)
    assert isinstance(pool, ConnectionPool)
    connection = await pool.borrow(5.0)
    served = asyncio.create_task(pool.borrow(5.0))
    await asyncio.sleep(0)
    pool.release(connection)
    served.cancel()
    with pytest.raises(asyncio.CancelledError):
        await served
    assert pool.status().used == 0
    pool.release(await pool.borrow(5.0))


async def test_those_who_wait_are_refused_as_soon_as_the_server_is_known_to_be_away(
    open_pool: OpenPool, database_url: str
) -> None:
    async with FaultProxy.before(database_url) as proxy:
        pool = await open_pool(proxy.url, maxsize=1)
        connection = await pool.borrow(5.0)
        waiting = asyncio.create_task(pool.borrow(50.0))
        await asyncio.sleep(0.05)  # it waits by now
        await proxy.refuse()
        assert not waiting.done()  # what is out might still come back
        connection.close()
        pool.release(connection)
        with pytest.raises(DatabaseUnavailable, match="cannot be reached"):
            await asyncio.wait_for(waiting, 20)


async def test_an_outage_ends_with_the_first_connection_and_the_next_one_is_told_again(
    open_pool: OpenPool, database_url: str
) -> None:
    async with FaultProxy.before(database_url) as proxy:
        with capture_logs() as lines:
            pool = await open_pool(proxy.url)
            assert isinstance(pool, ConnectionPool)
            for _ in range(2):
                await proxy.refuse()
                with pytest.raises(DatabaseUnavailable):
                    await pool.borrow(20.0)
                assert repr(pool).startswith("<ConnectionPool waiting for the server")
                await proxy.forward()
                await until(lambda: open_again(pool))
        told = [line["event"] for line in lines]
        assert told == ["database_waiting", "database_reached"] * 2


async def open_again(pool: ConnectionPool) -> bool:
    return repr(pool).startswith("<ConnectionPool open: 0 used, 1 free")


async def test_a_dead_connection_is_replaced_though_another_one_serves(
    open_pool: OpenPool, database_url: str
) -> None:
    pool = await open_pool(database_url, minsize=3, maxsize=3, reserve=0)
    assert isinstance(pool, ConnectionPool)
    connections = [await pool.borrow(5.0) for _ in range(3)]
    for connection in connections:
        pool.release(connection)
    ask(
        database_url,
        f"SELECT pg_terminate_backend({connections[1].raw.get_backend_pid()}, 5000)",
    )
    await until(lambda: living(pool, 2))
    pool.release(await pool.borrow(5.0))
    await until(lambda: living(pool, 3))


async def living(pool: ConnectionPool, number: int) -> bool:
    return sum(not connection.closed for connection in pool._free) == number


async def test_an_outage_of_growth_alone_does_not_outlast_the_loss_of_what_there_was(
    open_pool: OpenPool, database_url: str
) -> None:
    """A server that had no room for more, and is restarted later on."""
    pool = await open_pool(database_url, minsize=1, maxsize=2)
    assert isinstance(pool, ConnectionPool)
    pool._failed(OSError("sorry, too many clients already"))
    await until(lambda: pause_over(pool))
    kill_sessions(database_url)
    await until(lambda: lends(pool))


async def pause_over(pool: ConnectionPool) -> bool:
    return pool._outage is not None and not pool._outage.pausing


async def lends(pool: ConnectionPool) -> bool:
    try:
        pool.release(await pool.borrow(5.0))
    except DatabaseUnavailable:
        return False
    return True
