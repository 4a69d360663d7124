"""Flows for sale, and workers that follow what becomes of them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from service.cache.cache import TieredCache
from service.database import Database
from service.database.listener import Listener
from service.flows import changes as following
from service.flows.cached import NAMESPACE
from service.flows.catalog import Catalog
from service.flows.changes import FlowChanges
from service.metrics.changes import ChangeCounts
from service.settings import CacheSettings, DatabaseSettings, RedisSettings
from service.store.client import Store
from tests.support.followers import Hire, Worker
from tests.support.house import flow_definition
from tests.support.postgres import ask

OpenCatalog = Callable[..., Awaitable[Catalog]]
NEVER_S = (1e6, 1e6)


@pytest.fixture
async def hire(
    database_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Hire]:
    """Makes started workers. Unless told to ``look``, they look into the record only after gaps.

    Their own copies live for ever, so that nothing is seen by chance.
    """
    monkeypatch.setattr(following, "AGAIN_S", (0.05, 0.1))
    async with AsyncExitStack() as stack:

        async def make(
            *,
            database: str = database_url,
            listen: str = "",
            redis: str = redis_url,
            hearing: tuple[bool, bool] | None = (True, True),
            look_s: tuple[float, float] = NEVER_S,
        ) -> Worker:
            monkeypatch.setattr(following, "LOOK_S", look_s)
            store = Store(RedisSettings(timeout=5.0), url=redis)
            stack.push_async_callback(store.close)
            settings = DatabaseSettings(
                pool_min=1, pool_max=4, connect_timeout=1.0, quick_timeout=15.0
            )
            opened = Database(settings, url=database)
            await opened.open()
            stack.push_async_callback(opened.close)
            cache = TieredCache(
                store,
                # Loaded once, however slow the machine: nobody tires of waiting for the loader.
                CacheSettings(local_seconds=60, unknown_seconds=600, wait_seconds=10),
                namespace=NAMESPACE,
            )
            stack.push_async_callback(cache.close)
            listener = Listener(settings, url=listen or database, application_name="listener")
            registry = CollectorRegistry()
            changes = FlowChanges(opened, store, cache, listener, counts=ChangeCounts(registry))
            worker = Worker(
                store, opened, cache, listener, changes, Catalog(opened, cache), registry
            )
            await changes.start()
            stack.push_async_callback(changes.stop)
            await listener.start()
            stack.push_async_callback(listener.stop)
            if hearing:
                await worker.until_hearing(postgres=hearing[0], redis=hearing[1])
            return worker

        yield make


@pytest.fixture
async def sold(database_url: str) -> str:
    """Two flows are for sale, which no cache has heard of."""
    for slug in ("echo", "other"):
        row = flow_definition(slug)
        uid = row.first_uid()
        document = json.dumps(row.document())
        ask(
            database_url,
            f"INSERT INTO flows VALUES ('{uid}', '{slug}', '{row.name}', '{document}', 'd');"
            f"INSERT INTO flow_aliases VALUES ('{slug}', '{uid}'), ('{row.name.lower()}', '{uid}')",
        )
    return database_url


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    opened = Database(DatabaseSettings(pool_min=1, pool_max=4), url=database_url)
    await opened.open()
    yield opened
    await opened.close()


@pytest.fixture
async def open_catalog(database: Database, store: Store) -> AsyncIterator[OpenCatalog]:
    """Makes catalogs, each with the cache of a worker of its own."""
    async with AsyncExitStack() as stack:

        async def make(**settings: Any) -> Catalog:
            cache = TieredCache(store, CacheSettings(**settings), namespace="flow")
            stack.push_async_callback(cache.close)
            return Catalog(database, cache)

        yield make
