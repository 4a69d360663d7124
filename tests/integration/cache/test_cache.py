"""The cache on a real server; several TieredCache objects stand for several workers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from scripts.devservers import EmbeddedValkey
from service.cache.cache import TieredCache
from service.cache.models import Cached
from service.errors import DatabaseUnavailable, StoreUnavailable
from service.settings import CacheSettings
from service.store import keys
from service.store.client import Store
from service.store.guard import FAILURES_BEFORE_REST
from tests.support.broken.scripts import spoilt

OpenStore = Callable[..., Awaitable[Store]]
SETTINGS: dict[str, Any] = {"fresh_seconds": 300, "stale_seconds": 86_400, "local_seconds": 5}
VALUE_KEY = keys.cache_value("flow", "k")
VERSION_KEY = keys.cache_version("flow", "k")


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


@pytest.fixture
def database() -> Database:
    return Database()


def worker(store: Store, **settings: float) -> TieredCache:
    return TieredCache(store, CacheSettings(**(SETTINGS | settings)), namespace="flow")


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
    for field in ("loaded_at", "fresh_until"):
        await store.client.hincrby(VALUE_KEY, field, -round(seconds * 1_000_000))


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
        "<TieredCache flow entries=1 local=1 fleet=0 stale=0 loads=1 errors=0 owed=0>"
    )
    assert second.statistics().fleet_hits == 1


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
    assert 302 < max(ages) <= 330
    assert 86_000 < await store.client.ttl(VALUE_KEY) <= 86_400


async def test_failed_loads_leave_the_stale_value_in_place(
    store: Store, database: Database
) -> None:
    await get(worker(store), database)
    await elapse(store, 3600)
    database.away = True
    cache = worker(store, local_seconds=0)
    for loads in (2, 3):
        cached = await get(cache, database)
        assert (cached.value, cached.stale) == (b"one", True)
        assert cached.age_s >= 3600
        await database.until_loading(loads)
        await asyncio.sleep(0)


async def test_worker_tier_helps_out_when_redis_has_lost_the_value_and_the_load_fails(
    store: Store, database: Database
) -> None:
    cache = worker(store, local_seconds=0.01)
    await get(cache, database)
    await store.client.flushall()
    await asyncio.sleep(0.02)
    database.away = True
    cached = await get(cache, database)
    assert (cached.value, cached.stale) == (b"one", True)
    assert cache.statistics().load_errors == 1


async def test_error_without_an_older_value_is_the_callers_and_is_not_kept(
    store: Store, database: Database
) -> None:
    cache = worker(store)
    database.away = True
    with pytest.raises(DatabaseUnavailable):
        await get(cache, database)
    database.away = False
    assert (await get(cache, database)).value == b"one"


async def test_unknown_is_remembered_for_its_own_short_time(
    store: Store, database: Database
) -> None:
    database.value = None
    cache = worker(store, unknown_seconds=0.2, local_seconds=60)
    for _ in range(3):
        assert (await get(cache, database)).value is None
    assert (await get(worker(store, unknown_seconds=0.2), database)).value is None
    assert database.loads == 1
    assert 0 < await store.client.pttl(VALUE_KEY) <= 200
    database.value = b"born"
    known = await eventually(cache, database, lambda cached: cached.value is not None)
    assert (known.value, known.stale) == (b"born", False)


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
        await listener.subscribe(keys.cache_channel("flow"))
        await listener.get_message(timeout=5)
        await worker(store).invalidate(["k"])
        message = await listener.get_message(timeout=5)
    assert message is not None
    assert message["data"] == b"k"


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
    await asyncio.sleep(0.05)
    assert (await get(cache, newer)).value == b"two"
    assert await store.client.hget(VALUE_KEY, "value") == b"two"


async def test_an_old_value_on_its_way_from_redis_is_not_kept_after_an_invalidation(
    store: Store, database: Database
) -> None:
    await get(worker(store), database)
    cache = worker(store)
    read, replied, go_on = cache._get, asyncio.Event(), asyncio.Event()

    async def slow_read(*call: Any) -> Any:
        reply = await read(*call)
        replied.set()
        await go_on.wait()
        return reply

    cache._get = slow_read  # type: ignore[assignment]
    old = asyncio.create_task(get(cache, database))
    await replied.wait()
    database.value = b"two"
    await cache.invalidate(["k"])
    go_on.set()
    await old
    assert (await get(cache, database)).value == b"two"


async def test_an_unknown_past_its_time_is_asked_for_again_not_served(
    store: Store, database: Database
) -> None:
    database.value = None
    await get(worker(store), database)
    await elapse(store, 10)  # between its fresh age and the expiry of the key
    database.value = b"born"
    assert (await get(worker(store), database)).value == b"born"


async def test_a_version_lost_with_redis_stops_loads_from_before(
    store: Store, database: Database
) -> None:
    database.open.clear()
    old = asyncio.create_task(get(worker(store), database))
    await database.until_loading()
    await store.client.flushall()
    away = Database()
    away.away = True
    with pytest.raises(DatabaseUnavailable):
        await get(worker(store), away)  # leaves a version of its own
    database.open.set()
    await old
    assert not await store.client.exists(VALUE_KEY)


async def test_without_redis_each_worker_loads_once_and_serves_what_it_has(
    open_store: OpenStore, database: Database
) -> None:
    store = await open_store("redis://127.0.0.1:1/0")  # nothing listens there
    cache = worker(store)
    database.open.clear()
    crowd = [asyncio.create_task(get(cache, database)) for _ in range(20)]
    await database.until_loading()
    database.open.set()
    assert {cached.value for cached in await asyncio.gather(*crowd)} == {b"one"}
    assert (await get(cache, database)).value == b"one"
    assert database.loads == 1


async def test_without_redis_an_old_load_does_not_replace_a_newer_value_either(
    open_store: OpenStore, database: Database
) -> None:
    cache = worker(await open_store("redis://127.0.0.1:1/0"))
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


async def test_worker_tier_is_bounded(store: Store, database: Database) -> None:
    cache = worker(store, local_entries=10)
    for number in range(30):
        await cache.get(f"k{number}", database.load)
    assert cache.statistics().entries == 10


async def test_a_miss_leaves_only_a_short_lived_version_behind(
    store: Store, database: Database
) -> None:
    database.away = True
    with pytest.raises(DatabaseUnavailable):
        await get(worker(store), database)
    assert await store.client.keys() == [VERSION_KEY.encode()]
    assert 0 < await store.client.pttl(VERSION_KEY) <= keys.CACHE_VERSION_LIFE_MS


@pytest.mark.parametrize(
    ("script", "right", "wrong"),
    [
        ("put", "~= ARGV[1] then", "== 'never' then"),
        ("invalidate", "math.max(tonumber(redis.call('GET', KEYS[2]) or 0) + 1, now)",
         "tonumber(redis.call('GET', KEYS[2]) or now)"),
    ],
    ids=["version not checked", "version not moved"],
)  # fmt: skip
async def test_the_scenarios_see_a_script_with_one_fault(
    store: Store,
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
    script: str,
    right: str,
    wrong: str,
) -> None:
    broken = spoilt(store, "service.cache", script, right, wrong)
    real = Store.script
    monkeypatch.setattr(
        Store,
        "script",
        lambda self, package, name, keys: (
            broken if name == script else real(self, package, name, keys=keys)
        ),
    )
    with pytest.raises(AssertionError):
        await test_an_old_load_does_not_replace_a_newer_value(store, database)
