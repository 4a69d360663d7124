"""The cache on a real server: one load for all, ages, stale values, unknowns, bounds.

Several TieredCache objects stand for several workers.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from service.cache.cache import TieredCache
from service.cache.models import Ages
from service.errors import DatabaseUnavailable
from service.settings import CacheSettings
from service.store.client import Store
from tests.support.cache import (
    VALUE_KEY,
    Clock,
    Database,
    elapse,
    eventually,
    get,
    worker,
)


async def test_loaded_once_for_the_fleet_then_served_by_both_tiers(
    store: Store, database: Database
) -> None:
    first, second = worker(store), worker(store)
    for cache in (first, second, first, second):
        cached = await get(cache, database)
        assert (cached.value, cached.stale) == (b"one", False)
        assert 0 <= cached.age_s < 60
    assert database.loads == 1
    assert repr(first) == (
        "<TieredCache flow-1 entries=1 local=1 fleet=0 stale=0 loads=1 refreshes=0 errors=0 owed=0>"
    )
    assert second.statistics().fleet.hits == 1


async def test_age_is_that_of_the_load_also_in_another_worker(
    store: Store, database: Database
) -> None:
    await get(worker(store), database)
    await elapse(store, 100)
    assert 100 <= (await get(worker(store), database)).age_s < 160


async def test_many_waiters_are_one_load_and_a_cancelled_leader_harms_none(
    store: Store, database: Database
) -> None:
    cache = worker(store)
    database.open.clear()
    leader, *others = [asyncio.create_task(get(cache, database)) for _ in range(20)]
    await database.until_loading()
    leader.cancel()
    await asyncio.gather(leader, return_exceptions=True)
    database.open.set()
    assert {cached.value for cached in await asyncio.gather(*others)} == {b"one"}
    assert database.loads == 1


async def test_past_its_fresh_age_it_is_served_while_one_load_renews_it(
    store: Store, database: Database
) -> None:
    await get(worker(store), database)
    await elapse(store, 331)  # 300 s and at most 10 % more
    database.value = b"two"
    database.open.clear()
    cache = worker(store, local_seconds=0)
    for _ in range(3):
        cached = await get(cache, database)
        assert (cached.value, cached.stale) == (b"one", True)
    await database.until_loading(2)
    database.open.set()
    renewed = await eventually(cache, database, lambda cached: not cached.stale)
    assert (renewed.value, database.loads) == (b"two", 2)


async def test_fresh_ages_are_spread_by_a_tenth(store: Store, database: Database) -> None:
    ages = []
    for _ in range(40):
        await store.client.flushall()
        await get(worker(store), database)
        loaded, fresh = await store.client.hmget(VALUE_KEY, ["loaded_at", "fresh_until"])
        assert loaded is not None
        assert fresh is not None
        ages.append((int(fresh) - int(loaded)) / 1_000_000)
    assert 270 <= min(ages) < 298
    assert 302 < max(ages) < 345  # with the time that the load took
    assert 86_000 < await store.client.ttl(VALUE_KEY) <= 86_400


async def test_error_without_an_older_value_is_the_callers_and_is_not_kept(
    store: Store, database: Database
) -> None:
    cache = worker(store)
    database.away = True
    with pytest.raises(DatabaseUnavailable):
        await get(cache, database)
    database.away = False
    assert (await get(cache, database)).value == b"one"


async def test_what_a_worker_has_already_is_not_sent_again(
    store: Store, database: Database
) -> None:
    cache = worker(store, local_seconds=0)
    first = await get(cache, database)
    await store.client.hset(VALUE_KEY, "value", b"never sent")
    again = await get(cache, database)
    assert again.value is first.value
    assert cache.statistics().fleet.hits == 1
    assert (await get(worker(store), database)).value == b"never sent"


async def test_ages_may_be_those_of_the_value(store: Store, database: Database) -> None:
    ages = Ages(fresh_s=100.0, stale_s=200.0)
    await worker(store).get("k", database.load, ages=ages)
    loaded, fresh = await store.client.hmget(VALUE_KEY, ["loaded_at", "fresh_until"])
    assert loaded is not None
    assert fresh is not None
    assert 90 <= (int(fresh) - int(loaded)) / 1_000_000 < 150
    assert 0 < await store.client.pttl(VALUE_KEY) <= 200_000


async def test_another_form_of_the_values_is_another_cache(
    store: Store, database: Database
) -> None:
    older = TieredCache(store, CacheSettings(), namespace="flow-1")
    newer = TieredCache(store, CacheSettings(), namespace="flow-2")
    await older.get("k", database.load)
    database.value = b"of the new form"
    assert (await newer.get("k", database.load)).value == b"of the new form"
    assert (await older.get("k", database.load)).value == b"one"


async def test_worker_tier_is_bounded(store: Store, database: Database) -> None:
    cache = worker(store, local_entries=10)
    for number in range(30):
        await cache.get(f"k{number}", database.load)
    assert cache.statistics().local.entries == 10


async def test_a_copy_in_hand_is_given_without_asking_anybody(
    store: Store, database: Database
) -> None:
    clock = Clock()
    cache = worker(store, clock=clock)
    assert cache.peek("k") is None
    cached = await get(cache, database)
    assert cache.peek("k") is cached
    clock.now_s += 5
    assert cache.peek("k") is None
    assert cache.statistics().local.hits == 1


async def test_a_value_from_the_future_is_new_and_gives_way_to_others(
    store: Store, database: Database
) -> None:
    """Redis's clock was set back since it was stored."""
    await get(worker(store), database)
    await elapse(store, -1000)
    cached = await get(worker(store), database)
    assert cached.loaded_at_s <= time.monotonic()
    await store.client.hincrby(VALUE_KEY, "fresh_until", -2_000_000_000)
    database.value = b"two"
    cache = worker(store, local_seconds=0)
    renewed = await eventually(cache, database, lambda cached: not cached.stale)
    assert renewed.value == b"two"


async def test_a_copy_is_kept_for_its_time_from_the_question_not_from_the_answer(
    store: Store, database: Database
) -> None:
    clock = Clock()
    cache = worker(store, clock=clock)
    database.open.clear()
    asking = asyncio.create_task(get(cache, database))
    await database.until_loading()
    clock.now_s += 3
    database.open.set()
    await asking
    clock.now_s += 1.9
    assert cache.peek("k") is not None
    clock.now_s += 0.2
    assert cache.peek("k") is None


async def test_a_crowd_of_readers_leaves_connections_to_the_others(
    store: Store, database: Database
) -> None:
    """Waiting for a connection counts as a failure of Redis, and a few of those as an outage."""
    cache = worker(store)
    read, running, most = cache._fleet._get, 0, 0

    async def counted(*call: Any) -> Any:
        nonlocal running, most
        running += 1
        most = max(most, running)
        try:
            return await read(*call)
        finally:
            running -= 1

    cache._fleet._get = counted  # type: ignore[assignment]
    await asyncio.gather(*(cache.get(f"k{number}", database.load) for number in range(100)))
    assert most == 8
    assert cache.statistics().fleet.errors == 0
