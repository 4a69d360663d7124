"""The few parts a command needs, connected for as long as it runs; nothing in the background."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from service.cache.cache import TieredCache
from service.database import Database
from service.flows.cached import NAMESPACE
from service.flows.catalog import Catalog
from service.settings import Settings
from service.settings.needed import required
from service.store.client import Store

#: One statement after the other: a command must not eat up the connections of the service.
POOL = {"pool_min": 1, "pool_max": 2}
#: PostgreSQL that is there answers at once; a person waits no longer for one that is not.
WAIT_S = 3.0


@asynccontextmanager
async def database(settings: Settings) -> AsyncIterator[Database]:
    """The database; raises DatabaseUnavailable at the first statement if it is away."""
    opened = Database(
        settings.database.model_copy(update=POOL),
        url=required("database.url", settings.database.url),
        application_name="tollgate-cli",
    )
    await opened.open(wait_s=WAIT_S)
    try:
        yield opened
    finally:
        await opened.close()


@asynccontextmanager
async def store(settings: Settings) -> AsyncIterator[Store]:
    """Redis; opening does not fail if it is away."""
    opened = Store(settings.redis, url=required("redis.url", settings.redis.url))
    await opened.open()
    try:
        yield opened
    finally:
        await opened.close()


@asynccontextmanager
async def catalog(settings: Settings) -> AsyncIterator[Catalog]:
    """The flows, with the cache that an import has to keep honest."""
    async with database(settings) as db, store(settings) as redis:
        yield Catalog(db, TieredCache(redis, settings.cache, namespace=NAMESPACE))
