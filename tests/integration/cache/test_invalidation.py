"""After an invalidation no worker serves the old value, however late an old load or read ends."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from scripts.devservers import EmbeddedValkey
from service.errors import StoreUnavailable
from service.store import keys
from service.store.client import Store
from service.store.guard import FAILURES_BEFORE_REST
from tests.support.broken.scripts import spoil
from tests.support.cache import (
    FENCE_KEY,
    NAMESPACE,
    NOWHERE,
    VALUE_KEY,
    Database,
    OpenStore,
    elapse,
    get,
    worker,
)


async def test_invalidation_shows_the_change_at_once_and_clears_unknowns(
    store: Store, database: Database
) -> None:
    cache = worker(store)
    database.value = None
    await get(cache, database)
    for value in (b"born", b"changed"):
        database.value = value
        await cache.invalidate(["k"])
        assert (await get(cache, database)).value == value
        assert (await get(worker(store), database)).value == value


async def test_invalidation_is_published_to_the_workers(store: Store) -> None:
    async with store.client.pubsub() as listener:
        await listener.subscribe(keys.cache_channel(NAMESPACE))
        await listener.get_message(timeout=5)
        await worker(store).invalidate(["k"])
        message = await listener.get_message(timeout=5)
    assert message is not None
    assert message["data"] == b"k"
    assert 0 < await store.client.pttl(FENCE_KEY) <= keys.CACHE_FENCE_LIFE_MS


async def test_a_load_begun_before_an_invalidation_is_kept_nowhere(
    store: Store, database: Database
) -> None:
    slow, other = worker(store), worker(store)
    database.open.clear()
    old = asyncio.create_task(get(slow, database))
    await database.until_loading()
    database.value = b"two"
    await other.invalidate(["k"])
    database.open.set()
    assert (await old).value == b"one"  # it asked before the change
    assert not await store.client.exists(VALUE_KEY)
    assert (await get(slow, database)).value == b"two"
    assert (await get(other, database)).value == b"two"


async def test_an_old_load_does_not_replace_a_newer_value(store: Store, database: Database) -> None:
    slow, quick = worker(store), worker(store)
    database.open.clear()
    old = asyncio.create_task(get(slow, database))
    await database.until_loading()
    newer = Database(b"two")
    await quick.invalidate(["k"])
    await get(quick, newer)
    database.open.set()
    await old
    assert await store.client.hget(VALUE_KEY, "value") == b"two"
    assert (await get(worker(store), newer)).value == b"two"


async def test_invalidation_by_the_same_worker_lets_newcomers_start_over(
    store: Store, database: Database
) -> None:
    cache = worker(store)
    database.open.clear()
    old = asyncio.create_task(get(cache, database))
    await database.until_loading()
    database.value = b"two"
    await cache.invalidate(["k"])
    new = asyncio.create_task(get(cache, database))
    await database.until_loading(2)
    database.open.set()
    assert ((await old).value, (await new).value) == (b"one", b"two")
    assert (await get(cache, database)).value == b"two"


async def test_a_refresh_begun_before_an_invalidation_is_kept_nowhere(
    store: Store, database: Database
) -> None:
    await get(worker(store), database)
    await elapse(store, 400)
    cache = worker(store)
    database.open.clear()
    assert (await get(cache, database)).stale
    await database.until_loading(2)
    newer = Database(b"two")
    await worker(store).invalidate(["k"])
    await cache.invalidate(["k"])
    assert (await get(cache, newer)).value == b"two"
    database.open.set()
    await asyncio.sleep(0.05)  # the older load ends and tries to write
    assert (await get(cache, newer)).value == b"two"
    assert await store.client.hget(VALUE_KEY, "value") == b"two"


async def test_an_old_value_on_its_way_from_redis_is_not_kept_after_an_invalidation(
    store: Store, database: Database
) -> None:
    await get(worker(store), database)
    cache = worker(store)
    fleet = cache._fleet
    read, replied, go_on = fleet._get, asyncio.Event(), asyncio.Event()

    async def slow_read(*call: Any) -> Any:
        reply = await read(*call)
        replied.set()
        await go_on.wait()
        return reply

    fleet._get = slow_read  # type: ignore[assignment]
    old = asyncio.create_task(get(cache, database))
    await replied.wait()
    database.value = b"two"
    await cache.invalidate(["k"])
    go_on.set()
    await old
    assert (await get(cache, database)).value == b"two"


async def test_a_refresh_stored_just_before_an_invalidation_is_not_kept_after_it(
    store: Store, database: Database
) -> None:
    await get(worker(store), database)
    await elapse(store, 400)
    cache = worker(store)
    put, stored, go_on = cache._fleet._put, asyncio.Event(), asyncio.Event()

    async def slow_put(*call: Any) -> Any:
        reply = await put(*call)
        stored.set()
        await go_on.wait()
        return reply

    cache._fleet._put = slow_put  # type: ignore[assignment]
    assert (await get(cache, database)).stale
    await stored.wait()
    database.value = b"two"
    await cache.invalidate(["k"])
    go_on.set()
    while len(cache._refreshes):
        await asyncio.sleep(0)
    assert (await get(cache, database)).value == b"two"


async def test_a_version_lost_with_redis_stops_loads_from_before(
    store: Store, database: Database
) -> None:
    database.open.clear()
    old = asyncio.create_task(get(worker(store), database))
    await database.until_loading()
    await store.client.flushall()
    later = Database()
    later.open.clear()
    new = asyncio.create_task(get(worker(store), later))  # under a version of its own
    await later.until_loading()
    database.open.set()
    await old
    assert not await store.client.exists(VALUE_KEY)
    later.open.set()
    await new


async def test_without_redis_an_old_load_does_not_replace_a_newer_value_either(
    open_store: OpenStore, database: Database
) -> None:
    cache = worker(await open_store(NOWHERE))
    database.open.clear()
    old = asyncio.create_task(get(cache, database))
    await database.until_loading()
    await cache.invalidate(["k"])
    newer = Database(b"two")
    await get(cache, newer)
    database.open.set()
    assert (await old).value == b"one"
    assert (await get(cache, newer)).value == b"two"


async def test_what_redis_could_not_be_told_it_is_told_first_when_it_is_back(
    open_store: OpenStore, private_valkey: Callable[[], EmbeddedValkey], database: Database
) -> None:
    server = private_valkey()
    store = await open_store(server.url, timeout=0.3, connect_timeout=0.3)
    cache = worker(store, local_seconds=0)
    await get(cache, database)
    server.suspend()
    for _ in range(FAILURES_BEFORE_REST):
        with pytest.raises(StoreUnavailable):
            await store.run(store.client.ping)
    database.value = b"two"
    await cache.invalidate(["k"])  # not even sent: the suspended server would have run it later
    assert repr(cache).endswith(" owed=1>")
    assert (await get(cache, database)).value == b"two"
    server.resume()
    for _ in range(100):
        assert (await get(cache, database)).value == b"two"
        if repr(cache).endswith(" owed=0>"):
            break
        await asyncio.sleep(0.1)
    assert repr(cache).endswith(" owed=0>")


async def test_a_change_told_by_many_workers_counts_once(store: Store, database: Database) -> None:
    caches = [worker(store) for _ in range(3)]
    await caches[0].invalidate(["k"], change="41")
    await caches[1].invalidate(["k"], change="42")
    await get(caches[0], database)
    for cache in caches:
        for change in ("41", "42"):
            await cache.invalidate(["k"], change=change)
    for cache in caches:
        await get(cache, database)
    assert database.loads == 1
    await caches[0].invalidate(["k"], change="4")
    await get(caches[1], database)
    assert database.loads == 1  # its own tier: nobody has told this worker
    caches[1].drop()
    await get(caches[1], database)
    assert database.loads == 2


async def test_what_is_dropped_while_it_is_loaded_is_not_kept(
    store: Store, database: Database
) -> None:
    cache = worker(store)
    database.open.clear()
    for keys_ in (["k"], None):
        old = asyncio.create_task(get(cache, database))
        await database.until_loading()
        cache.drop(keys_)
        database.open.set()
        await old
        assert cache.statistics().local.entries == 0
        await worker(store).invalidate(["k"])
        database.open.clear()
        database.loads = 0


@pytest.mark.parametrize(
    ("scenario", "script", "right", "wrong"),
    [
        (test_a_load_begun_before_an_invalidation_is_kept_nowhere,
         "put", "~= ARGV[1] then", "== 'never' then"),
        (test_a_load_begun_before_an_invalidation_is_kept_nowhere,
         "invalidate", "math.max(tonumber(fence[1] or 0) + 1, now)", "tonumber(fence[1] or now)"),
        (test_a_version_lost_with_redis_stops_loads_from_before,
         "get", "version = tonumber(fence[1] or now)", "version = tonumber(fence[1] or 1)"),
        (test_a_change_told_by_many_workers_counts_once,
         "invalidate", "if ARGV[4] ~= '' then", "if false then"),
    ],
    ids=["version not checked", "version not moved", "versions begin again", "told many times"],
)  # fmt: skip
async def test_the_scenarios_see_a_script_with_one_fault(
    store: Store,
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
    scenario: Callable[[Store, Database], Awaitable[None]],
    script: str,
    right: str,
    wrong: str,
) -> None:
    spoil(monkeypatch, store, "service.cache", script, right, wrong)
    with pytest.raises(AssertionError):
        await scenario(store, database)
