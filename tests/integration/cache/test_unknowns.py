"""Names that nobody has: remembered shortly, asked for in floods, and born meanwhile."""

from __future__ import annotations

import asyncio

from service.store import keys
from service.store.client import Store
from tests.support.cache import NAMESPACE, VALUE_KEY, Clock, Database, elapse, get, worker


async def test_remembered_for_its_own_short_time(store: Store, database: Database) -> None:
    database.value = None
    clock = Clock()
    cache = worker(store, clock=clock, unknown_seconds=10, local_seconds=60)
    for _ in range(3):
        assert (await get(cache, database)).value is None
    assert (await get(worker(store, unknown_seconds=10), database)).value is None
    assert database.loads == 1
    assert 0 < await store.client.pttl(VALUE_KEY) <= 10_000
    database.value = b"born"
    clock.now_s += 10
    await elapse(store, 10)
    known = await get(cache, database)
    assert (known.value, known.stale) == (b"born", False)


async def test_past_its_time_it_is_asked_for_again_not_served(
    store: Store, database: Database
) -> None:
    database.value = None
    await get(worker(store), database)
    await elapse(store, 10)  # between its fresh age and the expiry of the key
    database.value = b"born"
    assert (await get(worker(store), database)).value == b"born"


async def test_born_meanwhile_it_is_there_at_once(store: Store, database: Database) -> None:
    database.value = None
    here, there = worker(store), worker(store)
    for cache in (here, there):
        assert (await get(cache, database)).value is None
    database.value = b"born"
    await here.invalidate(["k"], change="1")
    there.drop(["k"])
    for cache in (here, there):
        assert (await get(cache, database)).value == b"born"


async def test_a_flood_of_them_fills_neither_tier_and_pushes_nothing_out(
    store: Store, database: Database
) -> None:
    # Its own tier outlasts the flood, however slow the machine, and nobody's turn comes too late.
    settings = {"local_seconds": 60, "unknown_seconds": 60, "wait_seconds": 30}
    flooded = worker(store, local_entries=50, local_unknowns=100, loads=4, **settings)
    for number in range(20):
        await flooded.get(f"flow{number}", database.load)
    running = most = loads = 0

    async def nothing() -> None:
        nonlocal running, most, loads
        loads += 1
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1

    for first in range(0, 10_000, 200):
        asked = (flooded.get(f"random{first + n}", nothing) for n in range(200))
        assert {cached.value for cached in await asyncio.gather(*asked)} == {None}
    assert most <= 4
    assert loads == 10_000
    local = flooded.statistics().local
    assert (local.entries, local.unknowns) == (20, 100)
    assert local.bytes < 100_000
    left = await store.client.keys()
    unknown = [name for name in left if b"random" in name]
    # Loads that had begun when the worker's own tier was full are written, too.
    assert len(unknown) <= 120
    assert not [name for name in unknown if name.endswith(b":fence")]
    for number in range(20):
        assert flooded.peek(f"flow{number}") is not None
        assert await store.client.exists(keys.cache_value(NAMESPACE, f"flow{number}"))


async def test_asked_for_again_and_again_it_costs_one_load(
    store: Store, database: Database
) -> None:
    database.value = None
    cache = worker(store)
    for _ in range(5):
        await asyncio.gather(*(get(cache, database) for _ in range(50)))
    assert database.loads == 1
