"""Who loads what nobody has: one worker of the fleet, and another as soon as that one fails.

Several TieredCache objects stand for several workers. Time is passed by moving what Redis keeps.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from service.cache.cache import TieredCache
from service.cache.loading import LOAD_LIMIT_S
from service.errors import DatabaseBusy, DatabaseUnavailable
from service.store.client import Store
from tests.support.broken.scripts import spoil
from tests.support.cache import (
    FENCE_KEY,
    VALUE_KEY,
    Database,
    elapse,
    eventually,
    get,
    worker,
)
from tests.support.waiting import until

#: Longer than any of these tests: a lease that ends does so because the test moved it.
PATIENT = {"wait_seconds": 30}
#: As long as it may be: what holds longer than any load counts for nothing.
LONG_REST_S = LOAD_LIMIT_S * 0.8


async def until_waiting(cache: TieredCache) -> None:
    await until(lambda: cache.statistics().loads.waits)


async def test_one_worker_loads_for_all_the_others(store: Store, database: Database) -> None:
    fleet = [worker(store, **PATIENT) for _ in range(8)]
    database.open.clear()
    crowd = [asyncio.create_task(get(cache, database)) for cache in fleet for _ in range(25)]
    await database.until_loading()
    await until(lambda: sum(cache.statistics().loads.waits for cache in fleet) == 7)
    database.open.set()
    assert {cached.value for cached in await asyncio.gather(*crowd)} == {b"one"}
    assert database.loads == 1


async def test_one_worker_refreshes_for_all_the_others(store: Store, database: Database) -> None:
    await get(worker(store), database)
    await elapse(store, 331)
    database.open.clear()
    fleet = [worker(store, local_seconds=0) for _ in range(8)]
    for _ in range(3):
        given = await asyncio.gather(*(get(cache, database) for cache in fleet))
        assert {(c.value, c.stale, c.degraded) for c in given} == {(b"one", True, False)}
    database.open.set()
    await eventually(fleet[0], database, lambda cached: not cached.stale)
    assert database.loads == 2


async def test_a_holder_that_dies_is_replaced_while_the_others_wait(
    store: Store, database: Database
) -> None:
    dying, *others = [worker(store, **PATIENT) for _ in range(4)]
    database.open.clear()
    doomed = asyncio.create_task(get(dying, database))
    await database.until_loading()
    waiting = [asyncio.create_task(get(cache, database)) for cache in others]
    await until_waiting(others[0])
    await dying.close()
    await asyncio.gather(doomed, return_exceptions=True)
    database.open.set()
    await elapse(store, 0.7 * PATIENT["wait_seconds"])
    assert {cached.value for cached in await asyncio.gather(*waiting)} == {b"one"}
    assert database.loads == 2


async def test_a_load_that_fails_lets_the_next_worker_try_at_once(
    store: Store, database: Database
) -> None:
    unlucky, other = worker(store, **PATIENT), worker(store, **PATIENT)
    cut = Database()
    cut.open.clear()
    cut.away = True
    failing = asyncio.create_task(get(unlucky, cut))
    await cut.until_loading()
    waiting = asyncio.create_task(get(other, database))
    await until_waiting(other)
    cut.open.set()
    with pytest.raises(DatabaseUnavailable):
        await failing
    assert (await asyncio.wait_for(waiting, 10)).value == b"one"


async def test_waiting_has_an_end(store: Store, database: Database) -> None:
    await hold(store, for_s=20)
    cached = await asyncio.wait_for(get(worker(store, wait_seconds=0.1), database), 5)
    assert (cached.value, database.loads) == (b"one", 1)


async def test_a_lease_from_the_future_counts_for_nothing(store: Store, database: Database) -> None:
    await hold(store, for_s=LOAD_LIMIT_S + 60)  # the clock was set back
    cached = await asyncio.wait_for(get(worker(store, **PATIENT), database), 10)
    assert cached.value == b"one"


async def test_an_invalidation_makes_nobody_wait_for_the_load_it_ended(
    store: Store, database: Database
) -> None:
    slow, other = worker(store, **PATIENT), worker(store, **PATIENT)
    database.open.clear()
    old = asyncio.create_task(get(slow, database))
    await database.until_loading()
    await other.invalidate(["k"])
    newer = Database(b"two")
    assert (await asyncio.wait_for(get(other, newer), 10)).value == b"two"
    database.open.set()
    await old


async def test_a_holder_that_was_replaced_changes_nothing_any_more(
    store: Store, database: Database
) -> None:
    """Neither by its result, which is the older one, nor by freeing the other's lease."""
    slow, failing, quick = (worker(store, **PATIENT) for _ in range(3))
    database.open.clear()
    old = asyncio.create_task(get(slow, database))
    await database.until_loading()
    await elapse(store, 0.7 * PATIENT["wait_seconds"])
    cut = Database()
    cut.open.clear()
    cut.away = True
    fails = asyncio.create_task(get(failing, cut))
    await cut.until_loading()
    await elapse(store, 0.7 * PATIENT["wait_seconds"])
    newer = Database(b"two")
    newer.open.clear()
    new = asyncio.create_task(get(quick, newer))
    await newer.until_loading()
    holder = await store.client.hget(FENCE_KEY, "holder")
    cut.open.set()
    await asyncio.gather(fails, return_exceptions=True)
    assert await store.client.hget(FENCE_KEY, "holder") == holder
    newer.open.set()
    assert (await new).value == b"two"
    database.open.set()
    assert (await old).value == b"one"
    assert await store.client.hget(VALUE_KEY, "value") == b"two"
    assert (await get(slow, newer)).value == b"two"
    assert slow.statistics().loads.void == 1


async def test_a_refresher_that_dies_is_replaced(store: Store, database: Database) -> None:
    await get(worker(store), database)
    await elapse(store, 331)
    database.open.clear()
    dying, other = worker(store, local_seconds=0), worker(store, local_seconds=0)
    await get(dying, database)
    await database.until_loading(2)
    await dying.close()
    database.open.set()
    database.value = b"two"
    assert (await get(other, database)).stale
    assert database.loads == 2
    await elapse(store, LOAD_LIMIT_S)
    renewed = await eventually(other, database, lambda cached: not cached.stale)
    assert (renewed.value, database.loads) == (b"two", 3)


async def test_after_a_failed_refresh_the_fleet_lets_the_database_rest(
    store: Store, database: Database
) -> None:
    await get(worker(store), database)
    await elapse(store, 331)
    database.away = True
    fleet = [worker(store, local_seconds=0) for _ in range(3)]
    with pytest.MonkeyPatch.context() as patch:  # the machine may stand still for the usual rest
        patch.setattr("service.cache.cache.REST_S", LONG_REST_S)
        await eventually(fleet[0], database, lambda cached: cached.degraded)
    for cache in fleet * 3:
        cached = await get(cache, database)
        assert (cached.value, cached.stale, cached.degraded) == (b"one", True, True)
    assert database.loads == 2
    await elapse(store, LONG_REST_S)
    await get(fleet[1], database)
    await database.until_loading(3)


async def test_that_rest_keeps_nobody_from_a_value_that_is_gone(
    store: Store, database: Database
) -> None:
    await get(worker(store), database)
    await elapse(store, 331)
    database.away = True
    await eventually(worker(store, local_seconds=0), database, lambda cached: cached.degraded)
    await store.client.delete(VALUE_KEY)
    database.away = False
    cache = worker(store, **PATIENT)
    assert (await get(cache, database)).value == b"one"
    assert cache.statistics().loads.waits == 0


async def test_so_many_loads_at_once_and_no_more(store: Store) -> None:
    cache = worker(store, loads=3, **PATIENT)
    running = most = 0

    async def load() -> bytes:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.001)
        running -= 1
        return b"v"

    await asyncio.gather(*(cache.get(f"k{number}", load) for number in range(60)))
    assert (most, cache.statistics().loads.misses) == (3, 60)


async def test_who_gets_no_place_in_time_is_told_so_or_given_the_old_value(
    store: Store, database: Database
) -> None:
    cache = worker(store, loads=1, wait_seconds=0.05, local_seconds=0.01)
    await get(cache, database)
    await store.client.flushall()
    await asyncio.sleep(0.02)  # its own tier has forgotten, too
    slow = Database()
    slow.open.clear()
    taking = asyncio.create_task(cache.get("other", slow.load))
    await slow.until_loading()
    given = await get(cache, database)
    assert (given.value, given.degraded) == (b"one", True)
    with pytest.raises(DatabaseBusy):
        await cache.get("third", database.load)
    assert cache.statistics().loads.refused == 2
    slow.open.set()
    await taking
    assert (await cache.get("third", database.load)).value == b"one"


async def hold(store: Store, *, for_s: float) -> None:
    """As if somebody had begun to load and would not end for so long."""
    seconds, micros = await store.client.time()
    until_us = seconds * 1_000_000 + micros + round(for_s * 1_000_000)
    await store.client.hset(
        FENCE_KEY, mapping={"version": 1, "holder": "somebody", "held_until": until_us}
    )


Scenario = Callable[[Store, Database], Awaitable[None]]


@pytest.mark.parametrize(
    ("scenario", "script", "right", "wrong"),
    [
        (test_one_worker_loads_for_all_the_others, "get", "if free then", "if true then"),
        (test_one_worker_refreshes_for_all_the_others, "get", "if free then", "if true then"),
        (test_a_lease_from_the_future_counts_for_nothing,
         "get", "held <= 0 or held > ARGV[4] * 1000", "held <= 0"),
        (test_a_holder_that_was_replaced_changes_nothing_any_more,
         "put", "loaded_at > tonumber(ARGV[2]) and", "false and"),
        (test_a_holder_that_was_replaced_changes_nothing_any_more,
         "release", "~= ARGV[1] then", "== 'nobody' then"),
        (test_a_load_that_fails_lets_the_next_worker_try_at_once,
         "release", "redis.call('DEL', KEYS[1])", ""),
        (test_after_a_failed_refresh_the_fleet_lets_the_database_rest,
         "release", "now + ARGV[2] * 1000", "now"),
        (test_an_invalidation_makes_nobody_wait_for_the_load_it_ended,
         "invalidate", "redis.call('DEL', KEYS[2])\n", "\n"),
    ],
    ids=["twin loads", "twin refreshes", "lease without end", "older value wins",
         "anybody's lease freed", "lease of a failure kept", "no rest", "lease outlives change"],
)  # fmt: skip
async def test_the_scenarios_see_a_script_with_one_fault(
    store: Store,
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
    scenario: Scenario,
    script: str,
    right: str,
    wrong: str,
) -> None:
    spoil(monkeypatch, store, "service.cache", script, right, wrong)
    with pytest.raises((AssertionError, TimeoutError)):
        async with asyncio.timeout(1):
            await scenario(store, database)
