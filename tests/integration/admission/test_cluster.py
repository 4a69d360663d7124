"""The limiter, the breaker and the cache on a Redis Cluster of three nodes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import replace

import pytest

from service.admission import settlement
from service.admission.limiter import Limiter
from service.admission.models import Charge, Decision, Policy, Subject
from service.breaker.breaker import Breaker
from service.breaker.models import Outcome
from service.cache.cache import TieredCache
from service.errors import CircuitOpen, StoreUnavailable
from service.settings import BreakerSettings, CacheSettings
from service.store.client import Store
from tests.support.cluster import ValkeyCluster, valkey_cluster
from tests.support.waiting import until

#: So slow that no token returns while a test runs.
SLOW = Policy("slow", tokens=4, period_s=86_400, burst=4)
WHOLE = Policy("whole", tokens=6, period_s=86_400, burst=6, scope="fleet")
CLIENTS = [Subject("client", f"ip:10.0.0.{number}") for number in range(12)]
FLEET = Subject("fleet")


@pytest.fixture(scope="module")
def cluster() -> Iterator[ValkeyCluster]:
    with valkey_cluster() as running:
        yield running


@pytest.fixture
async def store(open_store: Callable[..., Awaitable[Store]], cluster: ValkeyCluster) -> Store:
    cluster.flush()
    return await open_store(cluster.url, timeout=2.0)


@pytest.fixture
async def limiter(store: Store) -> AsyncIterator[Limiter]:
    made = Limiter(store, workers_hint=1)
    await made.start()
    yield made
    await made.stop()


async def take(limiter: Limiter, *charges: Charge) -> Decision:
    return await limiter.take(charges)


async def test_every_client_has_its_own_bucket_wherever_it_lies(
    limiter: Limiter, cluster: ValkeyCluster
) -> None:
    charges = [Charge(SLOW, client) for client in CLIENTS]
    assert {cluster.holder(charge.key) for charge in charges} == {0, 1, 2}
    decisions = await asyncio.gather(
        *(take(limiter, charge) for _ in range(6) for charge in charges)
    )
    assert not any(decision.degraded for decision in decisions)
    for number in range(len(charges)):
        assert [d.allowed for d in decisions[number :: len(charges)]] == [True] * 4 + [False] * 2


async def test_what_the_fleets_bucket_denies_is_given_back_to_the_client(limiter: Limiter) -> None:
    fleet = Charge(WHOLE, FLEET)
    for client in CLIENTS[:6]:
        decision = await take(limiter, fleet, Charge(SLOW, client))
        assert decision.allowed
        assert {state.policy.name for state in decision.states} == {"slow", "whole"}
    denied = await take(limiter, fleet, Charge(SLOW, CLIENTS[6]))
    assert [state.policy.name for state in denied.violated] == ["whole"]
    seen = await limiter.peek((Charge(SLOW, CLIENTS[6]), fleet))
    assert [(s.policy.name, s.remaining) for s in seen.states] == [("slow", 4), ("whole", 0)]


async def test_what_the_clients_bucket_denies_is_not_charged_to_the_fleet(limiter: Limiter) -> None:
    own, fleet = Charge(SLOW, CLIENTS[0]), Charge(WHOLE, FLEET)
    for _ in range(4):
        await take(limiter, own)
    assert not (await take(limiter, own, fleet)).allowed
    assert (await limiter.peek((fleet,))).states[0].remaining == 6


async def test_what_the_fleets_closed_limit_refuses_is_given_back_to_the_client(
    open_store: Callable[..., Awaitable[Store]],
    cluster: ValkeyCluster,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(settlement, "SETTLING_S", 0.2)
    cluster.flush()
    limiter = Limiter(await open_store(cluster.url, timeout=0.5), workers_hint=1)
    await limiter.start()
    fleet = Charge(replace(WHOLE, on_outage="closed"), FLEET)
    lost = cluster.holder(fleet.key)
    # Not the one with the heartbeats: a store that rests could give nothing back.
    assert lost != cluster.holder("rl:{workers}")
    own = next(c for c in (Charge(SLOW, x) for x in CLIENTS) if cluster.holder(c.key) != lost)
    cluster.nodes[lost].suspend()
    try:
        for _ in range(SLOW.burst + 1):
            with pytest.raises(StoreUnavailable):
                await take(limiter, own, fleet)
        assert (await limiter.peek((own,))).states[0].remaining == SLOW.burst
    finally:
        cluster.nodes[lost].resume()
    await until(lambda: not limiter.degraded)
    await limiter.stop()


async def test_peek_reset_and_refund_find_their_node(limiter: Limiter) -> None:
    charges = tuple(Charge(SLOW, client) for client in CLIENTS)
    for charge in charges:
        await take(limiter, charge)
    await limiter.refund(charges)
    seen = await limiter.peek(charges)
    assert [state.remaining for state in seen.states] == [4] * len(charges)
    await take(limiter, charges[0])
    assert await limiter.reset(SLOW, CLIENTS[0])
    assert not await limiter.reset(SLOW, CLIENTS[0])


async def test_nodes_that_forget_the_script_are_told_again(
    limiter: Limiter, cluster: ValkeyCluster
) -> None:
    charges = [Charge(SLOW, client) for client in CLIENTS]
    await asyncio.gather(*(take(limiter, charge) for charge in charges))
    cluster.flush()
    decisions = await asyncio.gather(*(take(limiter, charge) for charge in charges))
    assert {(d.allowed, d.degraded, d.states[0].remaining) for d in decisions} == {(True, False, 3)}


async def test_a_slot_is_followed_while_it_moves_and_after(
    limiter: Limiter, cluster: ValkeyCluster
) -> None:
    charge = Charge(replace(SLOW, name="moving"), CLIENTS[0])
    target = (cluster.holder(charge.key) + 1) % 3
    cluster.begin_move(charge.key, target)
    asked = await take(limiter, charge)  # ASK: the old node has no such key
    assert (asked.degraded, asked.states[0].remaining) == (False, 3)
    cluster.end_move(charge.key, target)
    moved = await take(limiter, charge)  # MOVED
    assert (moved.degraded, moved.states[0].remaining) == (False, 2)
    assert cluster.holder(charge.key) == target
    known = await take(limiter, charge)
    assert (known.degraded, known.states[0].remaining) == (False, 1)


async def test_two_workers_share_buckets_and_count_each_other(
    limiter: Limiter, open_store: Callable[..., Awaitable[Store]], cluster: ValkeyCluster
) -> None:
    other = Limiter(await open_store(cluster.url, timeout=2.0), workers_hint=1)
    await other.start()
    assert other.workers == 2
    charge = Charge(SLOW, CLIENTS[3])
    decisions = await asyncio.gather(
        *(take(each, charge) for _ in range(10) for each in (limiter, other))
    )
    assert sum(decision.allowed for decision in decisions) == 4
    await other.stop()


async def test_one_node_away_leaves_the_others_alone(
    limiter: Limiter, cluster: ValkeyCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settlement, "SETTLING_S", 0.2)
    charges = {cluster.holder(Charge(SLOW, c).key): Charge(SLOW, c) for c in CLIENTS}
    for charge in charges.values():
        assert (await take(limiter, charge)).allowed
    # Not the one with the heartbeats: whoever is left must still count.
    lost = next(number for number in charges if number != cluster.holder("rl:{workers}"))
    cluster.nodes[lost].suspend()
    while limiter.status().mode != "away":
        await take(limiter, charges[lost])
    assert (await take(limiter, charges[lost])).degraded
    for number, charge in charges.items():
        if number != lost:
            decision = await take(limiter, charge)
            assert (decision.degraded, decision.allowed) == (False, True)
    cluster.nodes[lost].resume()
    await until(lambda: not limiter.degraded)
    assert not (await take(limiter, charges[lost])).degraded


async def test_breaker_and_cache_work_on_a_cluster(store: Store) -> None:
    breaker = Breaker("payment", BreakerSettings(), store)
    for _ in range(3):
        await breaker.report(await breaker.acquire(), Outcome.FAIL)
    with pytest.raises(CircuitOpen):
        await breaker.acquire()
    await breaker.close()

    cache = TieredCache(store, CacheSettings(), namespace="flow")

    async def load() -> bytes:
        return b"value"

    assert (await cache.get("a", load)).value == b"value"
    await cache.invalidate(["a"])
    assert (await cache.get("a", load)).value == b"value"
    await cache.close()
