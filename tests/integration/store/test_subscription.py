"""A worker hears what Redis tells, through every loss of its connection."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import pytest
from structlog.testing import capture_logs

from scripts.devservers import EmbeddedValkey
from scripts.faultproxy import FaultProxy
from service.store import subscription as subscribing
from service.store.client import Store
from service.store.subscription import Subscription
from tests.support.cluster import valkey_cluster
from tests.support.ear import PATIENCE_S, Ear
from tests.support.waiting import until

OpenStore = Callable[..., Awaitable[Store]]
Subscribe = Callable[..., Awaitable[Subscription]]
CHANNEL = "fc:test:invalidated"
#: The product's own times, made short.
SHORT = {"QUIET_S": 0.2, "LONGEST_PAUSE_S": 0.3}


@pytest.fixture
def ear() -> Ear:
    return Ear(CHANNEL)


@pytest.fixture
async def subscribe(
    open_store: OpenStore, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Subscribe]:
    """Starts subscriptions that are stopped with the test."""
    for name, seconds in SHORT.items():
        monkeypatch.setattr(subscribing, name, seconds)
    async with AsyncExitStack() as stack:

        async def make(url: str, ear: Ear) -> Subscription:
            store = await open_store(url)
            made = store.subscription(ear.channel, ear.heard.append, gap=ear.gap)
            stack.push_async_callback(made.stop)
            await made.start()
            return made

        yield make


async def test_messages_come_in_order_and_only_those_of_the_channel(
    subscribe: Subscribe, store: Store, redis_url: str, ear: Ear
) -> None:
    subscription = await subscribe(redis_url, ear)
    await ear.until("gap")
    assert subscription.connected
    for number in range(200):
        await store.client.publish("another", "x")
        await store.client.publish(CHANNEL, f"alias:ü {number}")
    await ear.until("gap", *(f"alias:ü {number}" for number in range(200)))


async def test_a_quiet_channel_stays_connected(
    subscribe: Subscribe, store: Store, redis_url: str, ear: Ear
) -> None:
    await subscribe(redis_url, ear)
    await ear.until("gap")

    async def asked() -> bool:
        clients = await store.client.client_list(_type="pubsub")
        return any(client["cmd"] == "ping" for client in clients)

    await until(asked)
    await store.client.publish(CHANNEL, "late")
    await ear.until("gap", "late")


async def test_a_killed_connection_is_replaced_and_the_gap_is_told(
    subscribe: Subscribe, store: Store, redis_url: str, ear: Ear
) -> None:
    await subscribe(redis_url, ear)
    await ear.until("gap")
    with capture_logs() as lines:
        await store.client.client_kill_filter(_type="pubsub")
        await ear.until("gap", "gap")
    await store.client.publish(CHANNEL, "after")
    await ear.until("gap", "gap", "after")
    assert [line["event"] for line in lines] == ["store_subscription_lost", "store_subscribed"]


async def test_a_server_that_stands_still_is_noticed_and_found_again(
    subscribe: Subscribe, private_valkey: Callable[[], EmbeddedValkey], ear: Ear
) -> None:
    server = private_valkey()
    subscription = await subscribe(server.url, ear)
    await ear.until("gap")
    server.suspend()
    try:
        began_s = time.monotonic()
        await until(lambda: not subscription.connected)
        assert time.monotonic() - began_s < 10 * (SHORT["QUIET_S"] + 1.0)
    finally:
        server.resume()
    await ear.until_heard("gap", after=1)


async def test_a_server_that_is_away_is_looked_for_until_it_is_back(
    subscribe: Subscribe, private_valkey: Callable[[], EmbeddedValkey], ear: Ear
) -> None:
    server = private_valkey()
    with capture_logs() as lines:
        subscription = await subscribe(server.url, ear)
        await ear.until("gap")
        server.kill()
        await until(lambda: not subscription.connected)
        await asyncio.sleep(2 * SHORT["LONGEST_PAUSE_S"])  # several attempts, one warning
        server.start()
        await ear.until("gap", "gap")
    assert [line["event"] for line in lines].count("store_subscription_lost") == 1


async def test_cut_connections_refused_ones_and_resets_do_not_end_it(
    subscribe: Subscribe, store: Store, redis_url: str, ear: Ear
) -> None:
    async with FaultProxy.before(redis_url) as proxy:
        await subscribe(proxy.url, ear)
        await ear.until("gap")
        for fault in (proxy.cut, proxy.reset, proxy.refuse, proxy.hang):
            before = len(ear.heard)
            await fault()
            await asyncio.sleep(SHORT["LONGEST_PAUSE_S"])  # it has tried again in vain
            await proxy.cut()
            await proxy.forward()
            await ear.until_heard("gap", after=before)
        before = len(ear.heard)
        await store.client.publish(CHANNEL, "after")
        await ear.until_heard("after", after=before)


async def test_a_hearer_that_fails_hears_the_next(
    open_store: OpenStore, redis_url: str, store: Store, ear: Ear
) -> None:
    def told(message: str) -> None:
        ear.heard.append(message)
        raise ZeroDivisionError

    subscription = (await open_store(redis_url)).subscription(CHANNEL, told, gap=ear.gap)
    with capture_logs() as lines:
        await subscription.start()
        try:
            await ear.until("gap")
            await store.client.publish(CHANNEL, "a")
            await store.client.publish(CHANNEL, "b")
            await ear.until("gap", "a", "b")
        finally:
            await subscription.stop()
    assert "store_subscription_hearer_failed" in [line["event"] for line in lines]


async def test_stopping_closes_the_connection(
    subscribe: Subscribe, store: Store, redis_url: str, ear: Ear
) -> None:
    subscription = await subscribe(redis_url, ear)
    await ear.until("gap")
    await subscription.stop()
    await subscription.stop()
    assert not subscription.connected
    async with asyncio.timeout(PATIENCE_S):
        while await store.client.client_list(_type="pubsub"):
            await asyncio.sleep(0.01)


async def test_in_a_cluster_it_hears_what_any_node_is_told_and_outlives_its_own(
    subscribe: Subscribe, open_store: OpenStore, ear: Ear
) -> None:
    with valkey_cluster() as cluster:
        subscription = await subscribe(cluster.url, ear)
        await ear.until("gap")
        store = await open_store(cluster.url, timeout=5.0)
        script = "return redis.call('PUBLISH', ARGV[1], KEYS[1])"
        spread = [f"key-{number}" for number in range(12)]
        assert {cluster.holder(key) for key in spread} == {0, 1, 2}
        for key in spread:
            await store.client.eval(script, 1, key, CHANNEL)
        await ear.until_heard(spread[-1], after=0)
        await until(lambda: set(ear.heard) == {"gap", *spread})
        [own] = [
            node
            for node in cluster.nodes
            if (await (await open_store(node.url)).client.client_list(_type="pubsub"))
        ]
        before = len(ear.heard)
        own.kill()
        await ear.until_heard("gap", after=before)
        assert subscription.connected
