"""Caches that stand for workers, what is behind them, and time made to pass."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from service.cache.cache import TieredCache
from service.cache.models import Cached
from service.errors import DatabaseUnavailable
from service.settings import CacheSettings
from service.store import keys
from service.store.client import Store

OpenStore = Callable[..., Awaitable[Store]]
SETTINGS: dict[str, Any] = {"fresh_seconds": 300, "stale_seconds": 86_400, "local_seconds": 5}
NAMESPACE = "flow-1"
VALUE_KEY = keys.cache_value(NAMESPACE, "k")
FENCE_KEY = keys.cache_fence(NAMESPACE, "k")
#: Nothing listens there.
NOWHERE = "redis://127.0.0.1:1/0"


class Database:
    """What is behind the cache: one value, slow or away as the test wants."""

    def __init__(self, value: bytes | None = b"one") -> None:
        self.value = value
        self.loads = 0
        self.away = False
        self.open = asyncio.Event()
        self.open.set()

    async def load(self) -> bytes | None:
        self.loads += 1
        value = self.value
        await self.open.wait()
        if self.away:
            raise DatabaseUnavailable
        return value

    async def until_loading(self, loads: int = 1) -> None:
        async with asyncio.timeout(10):
            while self.loads < loads:
                await asyncio.sleep(0.001)


class Clock:
    """A worker's, which goes when the test says so."""

    def __init__(self) -> None:
        self.now_s = time.monotonic()

    def __call__(self) -> float:
        return self.now_s


def worker(
    store: Store, *, clock: Callable[[], float] = time.monotonic, **settings: float
) -> TieredCache:
    section = CacheSettings(**(SETTINGS | settings))
    return TieredCache(store, section, namespace=NAMESPACE, clock=clock)


async def get(cache: TieredCache, database: Database) -> Cached:
    return await cache.get("k", database.load)


async def eventually(
    cache: TieredCache, database: Database, wanted: Callable[[Cached], bool]
) -> Cached:
    async with asyncio.timeout(10):
        while not wanted(cached := await get(cache, database)):
            await asyncio.sleep(0.005)
        return cached


async def elapse(store: Store, seconds: float) -> None:
    """Pass the fleet tier's time by moving its instants back."""
    for key, field in ((VALUE_KEY, "loaded_at"), (VALUE_KEY, "fresh_until"),
                       (FENCE_KEY, "held_until")):  # fmt: skip
        if await store.client.hexists(key, field):
            await store.client.hincrby(key, field, -round(seconds * 1_000_000))
