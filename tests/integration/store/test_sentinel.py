"""The primary that sentinels name is followed, whoever is away; a replica is never used."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterator

import pytest

from scripts.devservers import EmbeddedValkey
from service.admission import settlement
from service.admission.limiter import Limiter
from service.admission.models import Charge, Policy, Subject
from service.breaker.breaker import Breaker
from service.breaker.models import Outcome
from service.cache.cache import TieredCache
from service.errors import CircuitOpen, StoreUnavailable
from service.settings import BreakerSettings, CacheSettings
from service.store.client import Store
from service.store.line import Line, pack
from service.store.scripts import Script
from tests.support.ear import Ear
from tests.support.redises import MAKES, VALKEY
from tests.support.scripts import call_every_script
from tests.support.sentinels import SentinelServer, WatchedPair, watched_pair
from tests.support.servers import scratch_directory

OpenStore = Callable[..., Awaitable[Store]]
COUNT = "return redis.call('INCR', KEYS[1])"
CHARGE = Charge(Policy("slow", tokens=9, period_s=86_400, burst=9), Subject("client", "ip:1"))
PATIENCE_S = 20.0


@pytest.fixture(scope="module", params=MAKES)
def made(request: pytest.FixtureRequest) -> Iterator[WatchedPair]:
    with watched_pair(request.param) as running:
        yield running


@pytest.fixture
def pair(made: WatchedPair) -> Iterator[WatchedPair]:
    """In order, before and after."""
    made.client(made.primary()).flushall()
    yield made
    made.heal()


async def port_at(line: Line) -> str:
    (told,) = await line.exchange([pack("INFO", "server")])
    found = re.search(rb"tcp_port:(\d+)", told)
    assert found
    return ":" + found[1].decode()


def primary(pair: WatchedPair) -> str:
    return f"127.0.0.1:{pair.servers[pair.primary()].port}"


async def test_every_script_runs_at_the_primary(open_store: OpenStore, pair: WatchedPair) -> None:
    store = await open_store(pair.url, timeout=2.0)
    await call_every_script(store)
    assert store.place_of(store.nodes()[0]) == primary(pair)


async def test_one_sentinel_of_three_is_enough_and_later_none(
    open_store: OpenStore, pair: WatchedPair
) -> None:
    pair.sentinels[0].kill()
    pair.sentinels[1].suspend()
    store = await open_store(pair.url, timeout=1.0)
    assert await store.run(lambda: store.client.incr("n")) == 1
    pair.sentinels[2].kill()
    assert await store.run(lambda: store.client.incr("n")) == 2
    with pytest.raises(StoreUnavailable):
        await store.look_again()
    assert await store.run(lambda: store.client.incr("n")) == 3
    assert not store.away


async def test_everything_goes_on_at_the_new_primary_and_not_at_the_old_one(
    open_store: OpenStore, pair: WatchedPair
) -> None:
    store = await open_store(pair.url, timeout=2.0)
    ear = Ear("fc:test:invalidated")
    subscription = store.subscription(ear.channel, ear.heard.append, gap=ear.gap)
    await subscription.start()
    limiter = Limiter(store, workers_hint=1)
    await limiter.start()
    breaker = Breaker("payment", BreakerSettings(), store)
    cache = TieredCache(store, CacheSettings(), namespace="flow")
    try:
        await ear.until("gap")
        line = store.line(store.nodes()[0])
        assert await line.exchange([pack("INCR", "n")]) == [1]
        assert (await limiter.take((CHARGE,))).states[0].remaining == 8
        for _ in range(3):
            await breaker.report(await breaker.acquire(), Outcome.FAIL)
        before = pair.primary()
        await asyncio.to_thread(pair.fail_over)
        await asyncio.to_thread(pair.await_health)

        # The old one is a replica by now, and there.
        async with asyncio.timeout(PATIENCE_S):
            while store.place_of(store.nodes()[0]) != primary(pair):
                await asyncio.sleep(0.01)
        assert await line.exchange([pack("INCR", "n")]) == [2]
        assert await store.run(lambda: store.client.incr("n")) == 3
        decision = await limiter.take((CHARGE,))
        assert (decision.allowed, decision.states[0].remaining) == (True, 7)
        with pytest.raises(CircuitOpen):
            await breaker.acquire()
        await cache.invalidate(["a"])
        heard = len(ear.heard)
        pair.client(pair.primary()).publish(ear.channel, "after")
        await ear.until_heard("after", after=heard)
        left = pair.client(before).client_list()
        assert [client for client in left if client["name"] == "tollgate"] == []
    finally:
        await limiter.stop()
        await breaker.close()
        await cache.close()
        await subscription.stop()


async def test_a_primary_that_became_a_replica_is_left_at_its_first_refusal(
    open_store: OpenStore, pair: WatchedPair
) -> None:
    """READONLY proves that nothing ran, so the command may go to the primary."""
    store = await open_store(pair.url, timeout=2.0)
    line = store.line(store.nodes()[0])
    assert await line.exchange([pack("INCR", "n")]) == [1]
    before = pair.primary()
    await asyncio.to_thread(pair.fail_over)
    pair.client(before).replicaof("127.0.0.1", pair.servers[pair.primary()].port)
    count = Script(store, "count", COUNT, keys=1)
    replies = await asyncio.gather(*(count(["m"], []) for _ in range(20)))
    assert sorted(replies) == list(range(1, 21))


async def test_a_killed_primary_is_replaced_and_the_lost_call_is_not_sent_again(
    open_store: OpenStore, pair: WatchedPair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settlement, "SETTLING_S", 0.2)
    store = await open_store(pair.url, timeout=0.3, connect_timeout=0.3)
    limiter = Limiter(store, workers_hint=1)
    await limiter.start()
    count = Script(store, "count", COUNT, keys=1)
    assert await count(["n"], []) == 1
    before = pair.primary()
    pair.servers[before].suspend()
    with pytest.raises(StoreUnavailable):
        await count(["n"], [])
    pair.servers[before].kill()
    await asyncio.to_thread(pair.await_takeover, before)
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                # Sent once to the dead one: there it may have run, here it has not.
                assert await count(["n"], []) == 2
                break
            except StoreUnavailable:
                await asyncio.sleep(0.05)
        while limiter.degraded:
            await asyncio.sleep(0.05)
    assert not (await limiter.take((CHARGE,))).degraded
    await limiter.stop()


async def test_a_switch_is_heard_without_asking(open_store: OpenStore, pair: WatchedPair) -> None:
    """After a failover by command the old primary takes writes for seconds more."""
    store = await open_store(pair.url, timeout=2.0)
    line = store.line(store.nodes()[0])
    before = primary(pair)
    assert before.endswith(await port_at(line))
    await asyncio.to_thread(pair.fail_over)
    async with asyncio.timeout(PATIENCE_S):
        while store.place_of(store.nodes()[0]) == before:
            await asyncio.sleep(0.01)
    assert not before.endswith(await port_at(line))
    assert store.place_of(store.nodes()[0]) == primary(pair)


async def test_a_sentinel_that_knows_of_no_failover_is_not_believed(
    open_store: OpenStore, pair: WatchedPair, private_valkey: Callable[[], EmbeddedValkey]
) -> None:
    await asyncio.to_thread(pair.fail_over)
    elsewhere = private_valkey()
    with scratch_directory() as home, SentinelServer(home, VALKEY, elsewhere.port) as lagging:
        url = pair.url.replace("://", f"://127.0.0.1:{lagging.port},")
        for _ in range(3):
            store = await open_store(url, timeout=2.0)
            assert store.place_of(store.nodes()[0]) == primary(pair)


async def test_a_replica_is_not_used_though_sentinels_name_it(
    open_store: OpenStore, pair: WatchedPair
) -> None:
    replica = pair.servers[1 - pair.primary()]
    for sentinel in pair.sentinels:
        pair.command(sentinel, "SENTINEL", "MONITOR", "mistaken", "127.0.0.1", replica.port, 3)
    try:
        store = await open_store(pair.url.replace("/limits", "/mistaken"), timeout=1.0)
        for _ in range(2):
            with pytest.raises(StoreUnavailable):
                await store.run(lambda: store.client.get("n"))
        with pytest.raises(StoreUnavailable):
            await store.line(store.nodes()[0]).exchange([pack("GET", "n")])
    finally:
        for sentinel in pair.sentinels:
            pair.command(sentinel, "SENTINEL", "REMOVE", "mistaken")
