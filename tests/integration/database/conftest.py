"""Every test here runs on both event loops: some of aiopg's faults show on one of them only."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack
from typing import Any

import pytest
import uvloop

from service.database import Database
from service.database.dsn import Dsn
from service.database.observer import Observer
from service.database.pool import ConnectionPool
from service.settings import DatabaseSettings
from tests.support.broken.aiopg_pool import BarePool
from tests.support.database import AnyPool, OpenDatabase, OpenPool


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest.fixture
async def open_pool() -> AsyncIterator[OpenPool]:
    """Makes filled pools of any URL: ours, or with ``bare=True`` aiopg's own."""
    async with AsyncExitStack() as stack:

        async def make(
            url: str, *, minsize: int = 1, maxsize: int = 2, connect_timeout_s: float = 5.0,
            statement_timeout_s: float | None = None, bare: bool = False, wait_s: float = 10.0,
            **further: Any,
        ) -> AnyPool:  # fmt: skip
            dsn = Dsn.parse(
                url, application_name="tollgate", statement_timeout_s=statement_timeout_s
            )
            sizes: dict[str, Any] = {"minsize": minsize, "maxsize": maxsize}
            pool: AnyPool
            if bare:
                pool = bare_pool = BarePool(dsn, **sizes, connect_timeout_s=connect_timeout_s)
                stack.push_async_callback(bare_pool.clear_up)
            else:
                pool = ConnectionPool(dsn, **sizes, connect_timeout_s=connect_timeout_s, **further)
                stack.push_async_callback(pool.shut, 1.0)
            await pool.fill(wait_s)
            return pool

        yield make


@pytest.fixture
async def open_database() -> AsyncIterator[OpenDatabase]:
    """Makes opened databases of any URL, with any settings of the section."""
    async with AsyncExitStack() as stack:

        async def make(
            url: str, *, wait_s: float = 10.0, status_interval_s: float = 60.0,
            observer: Observer | None = None, **settings: Any,
        ) -> Database:  # fmt: skip
            merged = {"pool_min": 1, "pool_max": 4, "acquire_timeout": 5.0} | settings
            database = Database(
                DatabaseSettings(**merged), url=url, status_interval_s=status_interval_s,
                observer=observer,
            )  # fmt: skip
            stack.push_async_callback(database.close)
            await database.open(wait_s=wait_s)
            return database

        yield make


@pytest.fixture
async def database(open_database: OpenDatabase, database_url: str) -> Database:
    database = await open_database(database_url)
    await database.execute("CREATE TABLE notes (id int PRIMARY KEY, text text)")
    return database
