"""Commands find their server in a cluster: while slots move, nodes fail, and everything at once."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Iterator

import pytest
from redis.crc import key_slot

from service.errors import StoreUnavailable
from service.store.client import Store
from service.store.line import pack
from service.store.scripts import Script
from tests.support.cluster import ValkeyCluster, valkey_cluster
from tests.support.redises import MAKES
from tests.support.scripts import CALLS, call_every_script, files

OpenStore = Callable[..., Awaitable[Store]]
COUNT = "return redis.call('INCR', KEYS[1])"
SLOW = """
redis.call('INCR', KEYS[1])
local begun = os.clock()
while os.clock() - begun < 0.45 do end
"""
BOTH = "redis.call('INCR', KEYS[1]) return redis.call('INCR', KEYS[2])"


@pytest.fixture(scope="module", params=MAKES)
def cluster(request: pytest.FixtureRequest) -> Iterator[ValkeyCluster]:
    with valkey_cluster(request.param) as running:
        yield running


@pytest.fixture
async def store(open_store: OpenStore, cluster: ValkeyCluster) -> Store:
    cluster.flush()
    return await open_store(cluster.url, timeout=2.0)


def key_on(cluster: ValkeyCluster, node: int) -> str:
    return next(key for n in range(1000) if cluster.holder(key := f"key-{n}") == node)


def test_there_is_a_call_for_every_script_and_its_keys_share_a_slot() -> None:
    assert set(CALLS) == set(files())
    for names, _ in CALLS.values():
        assert len({key_slot(name.encode()) for name in names}) == 1


def test_no_script_touches_a_key_that_is_not_listed() -> None:
    for path in files().values():
        for command, key in re.findall(r"redis\.call\('(\w+)'(?:,\s*([^,)]+))?", path.read_text()):
            assert command in {"TIME", "PUBLISH"} or key.startswith("KEYS["), (path, command)


async def test_every_script_runs_on_a_cluster(store: Store) -> None:
    await call_every_script(store)


async def test_many_at_once_follow_a_slot_that_is_moving(
    store: Store, cluster: ValkeyCluster
) -> None:
    """ASKING holds for one command on its connection: a client that sends them apart loses it."""
    key = key_on(cluster, 0)
    cluster.begin_move(key, 1)
    count = Script(store, "count", COUNT, keys=1)
    try:
        replies = await asyncio.gather(*(count([key], []) for _ in range(100)))
    finally:
        cluster.end_move(key, 1)
    assert sorted(replies) == list(range(1, 101))
    assert await count([key], []) == 101
    assert cluster.holder(key) == 1


async def test_two_keys_on_both_sides_of_a_move_are_asked_for_until_they_are_together(
    store: Store, cluster: ValkeyCluster
) -> None:
    key = key_on(cluster, 0)
    one, two = f"{{{key}}}:1", f"{{{key}}}:2"
    both = Script(store, "both", BOTH, keys=2)
    assert await both([one, two], []) == 1
    cluster.begin_move(key, 2)
    cluster.move_key(key, one, 2)
    asking = asyncio.create_task(both([one, two], []))
    await asyncio.sleep(0.02)  # TRYAGAIN
    cluster.end_move(key, 2)
    assert await asking == 2


async def test_a_line_tells_of_a_move_and_goes_on(store: Store, cluster: ValkeyCluster) -> None:
    key = key_on(cluster, 0)
    line = store.line(store.node_of(key))
    assert await line.exchange([pack("INCR", key)]) == [1]
    cluster.begin_move(key, 1)
    cluster.end_move(key, 1)
    moved, pong = await line.exchange([pack("INCR", key), pack("PING")])
    assert (type(moved).__name__, pong) == ("MovedError", b"PONG")
    assert await store.run(lambda: store.client.incr(key)) == 2
    assert store.node_of(key) == f"127.0.0.1:{cluster.nodes[1].port}"


async def test_more_callers_than_connections_wait_for_one(
    open_store: OpenStore, cluster: ValkeyCluster
) -> None:
    cluster.flush()
    store = await open_store(cluster.url, timeout=5.0, max_connections=2)
    replies = await asyncio.gather(*(store.run(lambda: store.client.incr("n")) for _ in range(50)))
    assert sorted(replies) == list(range(1, 51))


async def test_a_lost_reply_is_never_sent_again(
    open_store: OpenStore, cluster: ValkeyCluster
) -> None:
    cluster.flush()
    # Time enough to send it again, were that done: the server is back before a connect gives up.
    store = await open_store(cluster.url, timeout=0.3, connect_timeout=2.0)
    slow = Script(store, "slow", SLOW, keys=1)
    key = key_on(cluster, 1)
    await store.run(lambda: store.client.exists(key))
    with pytest.raises(StoreUnavailable):
        await slow([key], [])
    again = Script(await open_store(cluster.url, timeout=5.0), "count", COUNT, keys=1)
    assert await again([key], []) == 2


async def test_a_node_that_is_away_keeps_nobody_from_the_others(
    open_store: OpenStore, cluster: ValkeyCluster
) -> None:
    """Nor from making a script known there again."""
    cluster.flush()
    store = await open_store(cluster.url, timeout=1.0)
    count = Script(store, "count", COUNT, keys=1)
    here, away = key_on(cluster, 0), key_on(cluster, 2)
    assert await count([here], []) == await count([away], []) == 1
    cluster.nodes[2].kill()
    try:
        cluster.client(0).script_flush()
        began_s = time.monotonic()
        with pytest.raises(StoreUnavailable):
            await count([away], [])
        assert await count([here], []) == 2
        assert time.monotonic() - began_s < 10.0
    finally:
        cluster.heal()


async def test_an_uncovered_slot_is_refused_and_the_others_go_on(
    store: Store, cluster: ValkeyCluster
) -> None:
    key, other = key_on(cluster, 0), key_on(cluster, 1)
    await store.run(lambda: store.client.incr(other))
    slot = key_slot(key.encode())
    for number in range(3):
        cluster.client(number).cluster("DELSLOTS", slot)
    try:
        many = asyncio.gather(
            *(store.run(lambda: store.client.incr(other)) for _ in range(50)),
        )
        with pytest.raises(StoreUnavailable):
            await store.run(lambda: store.client.incr(key))
        assert sorted(await many) == list(range(2, 52))
    finally:
        cluster.client(0).cluster("ADDSLOTS", slot)
    async with asyncio.timeout(10):
        while True:
            try:
                await store.run(lambda: store.client.incr(key))
            except StoreUnavailable:
                await asyncio.sleep(0.05)
            else:
                break
