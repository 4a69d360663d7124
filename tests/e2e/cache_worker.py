"""One worker of a fleet, reduced to its cache: asks for one key many times at once.

It is told its rounds over a pipe, and answers with LOADING each time its loader is called and with
what it was given when all its requests have ended.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection

from service.cache.cache import TieredCache
from service.settings import CacheSettings, RedisSettings
from service.store.client import Store

LOADING = "loading"
VALUE = b"a flow"


@dataclass(frozen=True)
class Round:
    key: str
    redis_url: str
    requests: int
    load_s: float
    wait_s: float
    #: On the monotonic clock, which all processes of a machine share.
    begin_s: float
    #: The client that asked first, and so began the load, goes away while it is under way.
    leader_leaves: bool = False


@dataclass
class Given:
    loads: int = 0
    values: Counter[bytes | None] = field(default_factory=Counter)
    #: Requests of clients that went away.
    left: int = 0


def fork_each(pipes: list[int]) -> None:
    """A worker for each pipe, all of them from one process that has imported the service."""
    for pipe in pipes:
        if os.fork() == 0:
            for other in pipes:
                if other != pipe:
                    os.close(other)
            run(Connection(pipe))
            os._exit(0)
    for pipe in pipes:
        os.close(pipe)
    for _ in pipes:
        os.wait()


def run(rounds: Connection) -> None:
    """Until the pipe is closed. The first thing it says is its process."""
    rounds.send(os.getpid())
    while True:
        try:
            order = rounds.recv()
        except EOFError:
            return
        rounds.send(asyncio.run(play(order, rounds)))


async def play(order: Round, rounds: Connection) -> Given:
    store = Store(RedisSettings(timeout=5, connect_timeout=5), url=order.redis_url)
    settings = CacheSettings(wait_seconds=order.wait_s)
    cache = TieredCache(store, settings, namespace="flow-1")
    given, loading = Given(), asyncio.Event()

    async def load() -> bytes:
        given.loads += 1
        rounds.send(LOADING)
        loading.set()
        await asyncio.sleep(order.load_s)
        return VALUE

    async def request() -> None:
        try:
            given.values[(await cache.get(order.key, load)).value] += 1
        except asyncio.CancelledError:
            given.left += 1
            raise

    await store.open()
    await asyncio.sleep(order.begin_s - time.monotonic())
    requests = [asyncio.create_task(request()) for _ in range(order.requests)]
    if order.leader_leaves:
        with suppress(TimeoutError):  # it is another worker that loads
            await asyncio.wait_for(loading.wait(), order.load_s / 3)
        requests[0].cancel()
    await asyncio.gather(*requests, return_exceptions=True)
    await cache.close()
    await store.close()
    return given
