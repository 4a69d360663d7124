"""The faults of aiopg 1.4.0, one by one: cured in ours, and still there in theirs.

Each scenario runs on both pools. Where a new aiopg passes its half, the cure may go; until then the
second half proves that the first one can fail.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Awaitable, Iterator
from typing import cast
from urllib.parse import urlsplit

import aiopg
import psycopg2
import pytest
import uvloop

from scripts.faultproxy import FaultProxy
from service.database.connection import Connection, connect
from service.database.dsn import Dsn
from service.database.statements import Limit, run
from service.errors import DatabaseUnavailable, QueryTimeout
from tests.support.database import AnyPool, OpenPool
from tests.support.postgres import active
from tests.support.waiting import until

# Bare aiopg warns of what it leaks: part of its faults.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")

both = pytest.mark.parametrize("bare", [False, True], ids=["ours", "bare"])


async def query(connection: aiopg.Connection, statement: str, timeout_s: float = 30.0) -> None:
    cursor = await connection.cursor(timeout=timeout_s)
    await cursor.execute(statement)


async def time_out(pool: AnyPool, after_s: float = 0.2) -> None:
    """Borrow, run something long, give up, give back."""
    connection = await pool.borrow(5.0)
    try:
        with contextlib.suppress(TimeoutError):
            await query(connection, "SELECT pg_sleep(30)", after_s)
    finally:
        await pool.release(connection)


async def borrow_briefly(pool: AnyPool, timeout_s: float) -> bool:
    try:
        connection = await pool.borrow(timeout_s)
    except (TimeoutError, DatabaseUnavailable):
        return False
    await pool.release(connection)
    return True


# --- A: a connection that comes back closed wakes nobody ----------------------------------------


@both
async def test_waiters_are_served_after_every_connection_timed_out(
    open_pool: OpenPool, database_url: str, bare: bool
) -> None:
    pool = await open_pool(database_url, minsize=0, maxsize=2, bare=bare)
    long_ones = [asyncio.create_task(time_out(pool)) for _ in range(2)]
    await asyncio.sleep(0.1)  # they hold the whole pool
    waiters = [asyncio.create_task(borrow_briefly(pool, 2.0)) for _ in range(6)]
    served = await asyncio.gather(*waiters)
    await asyncio.gather(*long_ones)
    assert all(served) is not bare


# --- B: closing waits for ever --------------------------------------------------------------------


@both
async def test_closing_ends_when_the_last_query_is_cancelled(
    open_pool: OpenPool, database_url: str, bare: bool
) -> None:
    pool = await open_pool(database_url, bare=bare)
    last = asyncio.create_task(time_out(pool, after_s=30))
    await asyncio.sleep(0.1)  # it holds the connection
    closing = asyncio.create_task(pool.shut(10.0))
    await asyncio.sleep(0.1)  # closing waits for it
    last.cancel()
    finished, _ = await asyncio.wait([closing], timeout=1.0 if bare else 9.0)
    assert bool(finished) is not bare
    closing.cancel()
    await asyncio.wait([closing, last])


async def test_closing_takes_connections_from_those_who_keep_them(
    open_pool: OpenPool, database_url: str
) -> None:
    pool = await open_pool(database_url)
    connection = await pool.borrow(5.0)
    busy = asyncio.create_task(query(connection, "SELECT pg_sleep(30)"))
    await asyncio.sleep(0.1)  # it has been sent
    await pool.shut(0.1)
    with pytest.raises(psycopg2.OperationalError, match="closed"):
        await busy
    await pool.release(connection)


# --- C: what the server cancels looks like a cancelled task ---------------------------------------


async def test_server_side_timeout_is_an_error_of_its_own_and_keeps_the_connection(
    open_pool: OpenPool, database_url: str
) -> None:
    complaints: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    pool = await open_pool(database_url, statement_timeout_s=0.2)
    connection = cast(Connection, await pool.borrow(5.0))
    with pytest.raises(QueryTimeout):
        await run(connection, "SELECT pg_sleep(30)", None, Limit(20), announce=False)
    assert connection.idle()
    assert not complaints
    await pool.release(connection)


async def test_server_side_timeout_cancels_the_task_in_bare_aiopg(
    open_pool: OpenPool, database_url: str
) -> None:
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)
    pool = await open_pool(database_url, statement_timeout_s=0.2, bare=True)
    connection = await pool.borrow(5.0)
    with pytest.raises(asyncio.CancelledError):
        await query(connection, "SELECT pg_sleep(30)")
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    await pool.release(connection)


async def test_a_true_cancellation_stays_one(open_pool: OpenPool, database_url: str) -> None:
    pool = await open_pool(database_url)
    connection = cast(Connection, await pool.borrow(5.0))
    task = asyncio.create_task(
        run(connection, "SELECT pg_sleep(30)", None, Limit(20), announce=False)
    )
    await asyncio.sleep(0.1)  # it has been sent
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert connection.closed
    await pool.release(connection)


# --- D: uvloop trips over the socket that libpq closed --------------------------------------------


@contextlib.contextmanager
def closed_port() -> Iterator[int]:
    """A port that refuses, and is nobody else's meanwhile: bound, not listening."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]


@both
async def test_refused_connections_do_not_spoil_the_next_ones(
    database_url: str, bare: bool
) -> None:
    errors: list[type[BaseException]] = []
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)
    with closed_port() as port:
        refused = f"postgresql://u:p@127.0.0.1:{port}/x"
        for url in [refused] * 5 + [database_url] * 2:
            try:
                if bare:
                    connection = await aiopg.connect(url, timeout=5, enable_hstore=False)
                else:
                    dsn = Dsn.parse(url, application_name="tollgate")
                    connection = await connect(dsn, timeout_s=5)
            except (psycopg2.Error, RuntimeError) as error:
                errors.append(type(error))
            else:
                connection.close()
    spoilt = bare and isinstance(asyncio.get_running_loop(), uvloop.Loop)
    assert (RuntimeError in errors) is spoilt
    assert (errors == [psycopg2.OperationalError] * 5) is not spoilt


# --- E: connecting keeps everybody else out -------------------------------------------------------


@both
async def test_a_free_connection_is_lent_while_another_is_being_opened_in_vain(
    open_pool: OpenPool, database_url: str, bare: bool
) -> None:
    async with FaultProxy.before(database_url) as proxy:
        pool = await open_pool(proxy.url, minsize=2, maxsize=3, connect_timeout_s=2.0, bare=bare)
        first, second = await pool.borrow(5.0), await pool.borrow(5.0)
        await proxy.hang()
        unlucky = asyncio.create_task(borrow_briefly(pool, 4.0))
        await asyncio.sleep(0.1)  # it waits by now
        for connection in (first, second):
            pool.release(connection)
        assert await borrow_briefly(pool, 1.0) is not bare
        # Ours is served by what came back; theirs waits for its own connection, in vain.
        assert await unlucky is not bare


async def test_a_silent_server_costs_the_acquire_timeout_and_then_nothing(
    open_pool: OpenPool, database_url: str
) -> None:
    async with FaultProxy.before(database_url) as proxy:
        await proxy.hang()
        pool = await open_pool(proxy.url, connect_timeout_s=0.5, wait_s=0.01)
        with pytest.raises(DatabaseUnavailable, match="does not answer"):
            await pool.borrow(0.1)
        await asyncio.sleep(0.8)  # the attempt to connect has been given up by now
        with pytest.raises(DatabaseUnavailable, match="no answer in time"):
            await pool.borrow(60.0)
        await proxy.forward()
        await until(lambda: borrow_briefly(pool, 5.0))


# --- F: libpq goes on to another address ----------------------------------------------------------


@both
async def test_the_next_address_of_a_host_is_tried(database_url: str, bare: bool) -> None:
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)
    server = urlsplit(database_url)
    with closed_port() as port:
        dsn = Dsn(
            {
                "hostaddr": "127.0.0.1,127.0.0.1",
                "port": f"{port},{server.port}",
                "user": str(server.username),
                "password": str(server.password),
                "dbname": server.path[1:],
            }
        )
        if bare:
            with pytest.raises((TimeoutError, OSError)):
                await aiopg.connect(await dsn.resolve(), timeout=1.0, enable_hstore=False)
        else:
            (await connect(dsn, timeout_s=20)).close()


# --- G: connect_timeout is not heeded -------------------------------------------------------------


@both
async def test_connecting_to_a_silent_server_ends_after_our_own_limit(
    database_url: str, bare: bool
) -> None:
    async with FaultProxy.before(database_url) as proxy:
        await proxy.hang()
        asked = f"{proxy.url}?connect_timeout=1"
        connecting: Awaitable[aiopg.Connection]
        if bare:
            connecting = aiopg.connect(asked, timeout=1.5, enable_hstore=False)
        else:
            connecting = connect(Dsn.parse(asked, application_name="tollgate"), timeout_s=0.2)
        began = time.monotonic()
        with pytest.raises(TimeoutError):
            await connecting
        if bare:  # by its own limit, not by the one that libpq was told
            assert time.monotonic() - began >= 1.4


# --- and one of its remedies ----------------------------------------------------------------------


@both
async def test_a_cancelled_query_does_not_go_on_on_the_server(
    open_pool: OpenPool, database_url: str, bare: bool
) -> None:
    url = f"{database_url}?options=-c%20client_connection_check_interval%3D0" if bare else (
        database_url
    )  # fmt: skip
    pool = await open_pool(url, bare=bare)
    await time_out(pool)
    assert active(database_url, containing="pg_sleep(30)") == 1
    await asyncio.sleep(2.0)  # twice the server's interval for looking after its clients
    assert active(database_url, containing="pg_sleep(30)") == int(bare)
