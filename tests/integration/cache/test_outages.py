"""What is given while PostgreSQL, Redis or both are away, and how it ends.

Several TieredCache objects stand for several workers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from structlog.testing import capture_logs

from scripts.devservers import EmbeddedValkey
from service.cache.cache import REST_S, TieredCache
from service.errors import DatabaseUnavailable, StoreUnavailable, TollgateError, UnknownFlow
from service.store.client import Store
from service.store.guard import FAILURES_BEFORE_REST
from tests.support.cache import (
    NOWHERE,
    Clock,
    Database,
    OpenStore,
    elapse,
    eventually,
    get,
    worker,
)
from tests.support.waiting import until


async def test_without_postgres_every_worker_says_how_old_and_that_it_could_not_do_better(
    store: Store, database: Database
) -> None:
    await get(worker(store), database)
    await elapse(store, 3600)
    database.away = True
    first, second = worker(store, local_seconds=0), worker(store, local_seconds=0)
    at_first = await get(first, database)
    assert (at_first.value, at_first.stale, at_first.degraded) == (b"one", True, False)
    for cache in (first, second):
        later = await eventually(cache, database, lambda cached: cached.degraded)
        assert (later.value, later.stale) == (b"one", True)
        assert 3600 <= later.age_s < 3660
    assert database.loads == 2
    assert first.statistics().local.degraded >= 1


async def test_when_postgres_is_back_the_next_refresh_ends_it(
    store: Store, database: Database
) -> None:
    await get(worker(store), database)
    await elapse(store, 3600)
    database.away = True
    cache = worker(store, local_seconds=0)
    await eventually(cache, database, lambda cached: cached.degraded)
    database.away, database.value = False, b"two"
    await elapse(store, REST_S)
    renewed = await eventually(cache, database, lambda cached: not cached.stale)
    assert (renewed.value, renewed.degraded) == (b"two", False)
    await elapse(store, 331)
    later = await get(worker(store), database)
    assert (later.stale, later.degraded) == (True, False)  # that one failed is forgotten


async def test_worker_tier_helps_out_when_redis_has_lost_the_value_and_the_load_fails(
    store: Store, database: Database
) -> None:
    clock = Clock()
    cache = worker(store, clock=clock)
    await get(cache, database)
    await store.client.flushall()
    clock.now_s += 5
    database.away = True
    cached = await get(cache, database)
    assert (cached.value, cached.stale, cached.degraded) == (b"one", True, True)
    assert cache.statistics().loads.errors == 1


async def outlived(open_store: OpenStore, database: Database) -> tuple[TieredCache, Clock]:
    """A worker without Redis, whose fresh value has outlived the database."""
    clock = Clock()
    cache = worker(await open_store(NOWHERE), clock=clock)
    await get(cache, database)
    clock.now_s += 5
    database.away = True
    assert (await get(cache, database)).degraded
    return cache, clock


async def test_with_both_away_only_the_first_waits_for_a_database_that_hangs(
    open_store: OpenStore, database: Database
) -> None:
    cache, clock = await outlived(open_store, database)
    for _ in range(3):  # each look is due when the last one's time is over
        clock.now_s += REST_S
        database.open.clear()
        for _ in range(5):
            cached = await asyncio.wait_for(get(cache, database), 1)
            assert (cached.value, cached.degraded) == (b"one", True)
        await asyncio.sleep(0)
        database.open.set()
        await until_tried(cache)
    assert database.loads == 5
    database.away, database.value = False, b"two"
    clock.now_s += REST_S
    ended = await eventually(cache, database, lambda cached: not cached.stale)
    assert (ended.value, ended.degraded) == (b"two", False)


async def test_a_value_left_alone_since_an_outage_is_asked_for_before_it_is_given(
    open_store: OpenStore, database: Database
) -> None:
    cache, clock = await outlived(open_store, database)
    database.away, database.value = False, b"two"
    clock.now_s += REST_S + 5
    assert (await get(cache, database)).value == b"two"


async def test_with_both_away_nothing_is_given_past_its_stale_age(
    open_store: OpenStore, database: Database
) -> None:
    clock = Clock()
    cache = worker(await open_store(NOWHERE), clock=clock, stale_seconds=1000)
    await get(cache, database)
    database.away = True
    clock.now_s += 999
    assert (await get(cache, database)).degraded
    clock.now_s += 10
    with pytest.raises(DatabaseUnavailable):
        await get(cache, database)


async def test_in_doubt_about_all_old_values_are_given_only_for_want_of_better(
    open_store: OpenStore, store: Store, database: Database
) -> None:
    connected, alone = worker(store), worker(await open_store(NOWHERE))
    for cache in (connected, alone):
        await get(cache, database)
        cache.drop()
    database.value = b"two"
    assert (await get(alone, database)).value == b"two"
    alone.drop()
    database.away = True
    cached = await get(alone, database)
    assert (cached.value, cached.degraded) == (b"two", True)
    alone.drop(["k"])  # it has changed: this one is wrong, not merely old
    with pytest.raises(DatabaseUnavailable):
        await get(alone, database)


async def test_without_redis_each_worker_loads_once_and_serves_what_it_has(
    open_store: OpenStore, database: Database
) -> None:
    cache = worker(await open_store(NOWHERE))
    database.open.clear()
    crowd = [asyncio.create_task(get(cache, database)) for _ in range(20)]
    await database.until_loading()
    database.open.set()
    assert {cached.value for cached in await asyncio.gather(*crowd)} == {b"one"}
    assert (await get(cache, database)).value == b"one"
    assert database.loads == 1


async def test_a_load_that_is_answered_no_is_no_outage(store: Store, database: Database) -> None:
    """Whatever else a loader raises is its answer: not counted, no old value in its place."""
    cache = worker(store, local_seconds=0)
    await get(cache, database)
    await store.client.flushall()

    async def no() -> bytes:
        raise UnknownFlow

    with capture_logs() as logs, pytest.raises(UnknownFlow):
        await cache.get("k", no)
    assert (logs, cache.statistics().loads.errors) == ([], 0)
    assert (await get(cache, database)).stale is False


async def test_an_outage_is_told_once_and_its_end_too(store: Store, database: Database) -> None:
    cache = worker(store)
    database.away = True
    with capture_logs() as logs:
        for key in ("a", "b", "c"):
            with pytest.raises(TollgateError):
                await cache.get(key, database.load)
        database.away = False
        for key in ("a", "b"):
            await cache.get(key, database.load)
    told = [(line["event"], line.get("error")) for line in logs]
    assert told == [
        ("cache_loads_failing", "database-unavailable"),
        ("cache_loads_back", None),
    ]


async def test_a_failed_miss_leaves_nothing_in_redis(store: Store, database: Database) -> None:
    database.away = True
    with pytest.raises(DatabaseUnavailable):
        await get(worker(store), database)
    assert await store.client.keys() == []


async def test_owed_invalidations_are_told_without_anybody_asking(
    open_store: OpenStore, private_valkey: Callable[[], EmbeddedValkey], database: Database
) -> None:
    server = private_valkey()
    store = await open_store(server.url, timeout=0.3, connect_timeout=0.3)
    cache, other = worker(store), worker(store, local_seconds=0)
    await get(other, database)
    server.suspend()
    for _ in range(FAILURES_BEFORE_REST):
        with pytest.raises(StoreUnavailable):
            await store.run(store.client.ping)
    database.value = b"two"
    with capture_logs() as logs:
        await cache.invalidate(["k", "others"], change="7")
        server.resume()
        told = await eventually(other, database, lambda cached: cached.value == b"two")
        await until(lambda: "owed=0" in repr(cache))
    assert not told.stale
    await cache.close()
    events = [line for line in logs if line["event"].startswith("cache_invalidation")]
    assert events[0]["keys"] == 2
    assert [line["event"] for line in events] == [
        "cache_invalidation_owed",
        "cache_invalidation_told",
    ]


async def until_tried(cache: TieredCache) -> None:
    """Until no load is in flight any more."""
    await until(lambda: not cache._reads)
