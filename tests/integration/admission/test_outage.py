"""Redis lost and found again: what is answered meanwhile, and that nobody gets a second burst."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import replace

import pytest

from scripts.devservers import EmbeddedValkey
from service.admission import limiter as limiting
from service.admission import settlement
from service.admission.fallback import Place
from service.admission.limiter import Limiter
from service.admission.models import Charge, Decision, Policy, Subject
from service.admission.settlement import Outage
from service.errors import StoreUnavailable
from service.store import keys
from service.store.client import Store
from tests.support.waiting import eventually, until

OpenStore = Callable[..., Awaitable[Store]]
MakeValkey = Callable[[], EmbeddedValkey]
Fleet = Callable[[str, int], Awaitable[list[Limiter]]]
FAST = Policy("fast", tokens=400, period_s=1, burst=400)
CLIENT = Subject("client", "ip:10.0.0.1")


@pytest.fixture
async def fleet(open_store: OpenStore) -> AsyncIterator[Fleet]:
    """Workers of one fleet that know of each other, in one process."""
    async with AsyncExitStack() as stack:

        async def make(url: str, size: int) -> list[Limiter]:
            made = []
            for _ in range(size):
                store = await open_store(url, timeout=0.3)
                made.append(Limiter(store, workers_hint=size))
                stack.push_async_callback(made[-1].stop)
                await made[-1].start()
            return made

        yield make


async def take(limiter: Limiter, policy: Policy) -> Decision:
    return await limiter.take((Charge(policy, CLIENT),))


async def until_away(limiter: Limiter, policy: Policy = FAST) -> None:
    while limiter.status().mode != "away":
        await take(limiter, policy)


async def offer(limiter: Limiter, policy: Policy, over: asyncio.Event) -> int:
    """Ask all the time, as a crowd would; how many were admitted."""
    admitted = 0
    charges = (Charge(policy, CLIENT),)
    while not over.is_set():
        denial = limiter.deny_locally(charges)
        decision = denial or await limiter.take(charges)
        admitted += decision.allowed
        await asyncio.sleep(0.001)
    return admitted


async def test_without_redis_each_worker_grants_its_share_then_the_fleet_decides_again(
    fleet: Fleet, private_valkey: MakeValkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limiting, "HEARTBEAT_S", 3600)  # it would notice the outage as well
    server = private_valkey()
    (limiter,) = await fleet(server.url, 1)
    limiter._place = Place(0, 4)
    assert not (await take(limiter, FAST)).degraded

    server.kill()
    first = await take(limiter, FAST)
    assert (first.degraded, first.allowed, first.retry_after_s) == (True, False, 1)
    assert repr(limiter) == "<Limiter fleet workers=4>"  # one lost batch is not an outage
    await until_away(limiter)
    assert repr(limiter) == "<Limiter local-share workers=4>"
    await asyncio.sleep(0.05)  # a token of the share
    assert (await take(limiter, FAST)).allowed

    with pytest.raises(StoreUnavailable, match="closed"):
        await take(limiter, replace(FAST, name="closed", on_outage="closed"))
    assert (await take(limiter, replace(FAST, name="open", on_outage="open"))).allowed

    server.restart()
    await until(lambda: not limiter.degraded)
    assert not (await take(limiter, FAST)).degraded


async def test_an_outage_costs_requests_nothing_once_it_is_certain(
    fleet: Fleet, private_valkey: MakeValkey
) -> None:
    server = private_valkey()
    (limiter,) = await fleet(server.url, 1)
    server.suspend()
    begun_s = time.monotonic()
    await until_away(limiter)
    finding_s = time.monotonic() - begun_s
    begun_s = time.monotonic()
    for _ in range(100):
        await take(limiter, FAST)
    assert time.monotonic() - begun_s < finding_s / 3
    server.resume()


async def test_a_short_stop_denies_only_those_in_it(
    open_store: OpenStore, private_valkey: MakeValkey
) -> None:
    server = private_valkey()
    limiter = Limiter(await open_store(server.url, timeout=1.0), workers_hint=1)
    assert (await take(limiter, FAST)).allowed
    server.suspend()
    lost = await take(limiter, FAST)
    server.resume()
    assert (lost.allowed, lost.degraded) == (False, True)
    after = await take(limiter, FAST)
    assert (after.allowed, after.degraded) == (True, False)
    await limiter.stop()


async def test_an_idle_worker_notices_an_outage_by_its_heartbeat(
    fleet: Fleet, private_valkey: MakeValkey
) -> None:
    server = private_valkey()
    (limiter,) = await fleet(server.url, 1)
    server.kill()
    await until(lambda: limiter.status().mode == "away")


async def excess(fleet: Fleet, server: EmbeddedValkey, loss: str) -> float:
    """Offered far more than allowed before, in and after an outage: admitted beyond the bound."""
    limiters = await fleet(server.url, 3)
    policy = Policy("steady", tokens=30, period_s=1, burst=150)
    begun_s, over = time.monotonic(), asyncio.Event()

    async def all_are(mode: str) -> None:
        await until(lambda: {limiter.status().mode for limiter in limiters} == {mode})

    offers = [asyncio.create_task(offer(each, policy, over)) for each in limiters]
    await asyncio.sleep(0.7)  # in the midst of the load
    getattr(server, loss)()
    await all_are("away")
    await asyncio.sleep(1.6)  # admitted by shares alone meanwhile
    server.restart() if loss == "kill" else server.resume()
    await all_are("fleet")
    # A second burst, if there is one, has been had when Redis says no again.
    await until(lambda: all(each.deny_locally((Charge(policy, CLIENT),)) for each in limiters))
    over.set()
    admitted = sum(await asyncio.gather(*offers))
    taken_s = time.monotonic() - begun_s
    # The fleet did serve: at least what the shares and the time before and after give.
    assert admitted >= policy.burst + 0.4 * taken_s * policy.tokens
    return admitted - policy.burst - taken_s * policy.tokens / policy.period_s


@pytest.mark.parametrize("loss", ["kill", "suspend"])
async def test_no_second_burst_after_an_outage(
    fleet: Fleet, private_valkey: MakeValkey, loss: str
) -> None:
    assert await excess(fleet, private_valkey(), loss) <= 0


@pytest.mark.parametrize(
    ("loss", "left_out"), [("kill", "_recall"), ("suspend", "_settle")], ids=["recall", "settle"]
)
async def test_the_count_sees_an_outage_that_is_not_settled(
    fleet: Fleet, private_valkey: MakeValkey, monkeypatch: pytest.MonkeyPatch, loss: str,
    left_out: str,
) -> None:  # fmt: skip
    async def nothing(_: Outage) -> bool:
        return True

    monkeypatch.setattr(Outage, left_out, nothing)
    assert await excess(fleet, private_valkey(), loss) > 0


async def test_what_was_admitted_alone_is_charged_before_redis_is_trusted(
    fleet: Fleet, private_valkey: MakeValkey
) -> None:
    server = private_valkey()
    (limiter,) = await fleet(server.url, 1)
    slow_back = Policy("slow", tokens=20, period_s=10, burst=20)
    server.suspend()
    await until_away(limiter, slow_back)
    await asyncio.sleep(2.0)  # the share fills
    admitted = 0
    while (await take(limiter, slow_back)).allowed:
        admitted += 1
    assert admitted >= 3
    server.resume()
    await until(lambda: limiter.status().mode != "away")
    # What the lost batches may have been charged comes on top: never fewer than were admitted.
    seen = await limiter.peek((Charge(slow_back, CLIENT),))
    assert seen.states[0].remaining <= slow_back.burst - admitted + 1


async def test_a_restarted_server_is_told_what_was_known(
    fleet: Fleet, private_valkey: MakeValkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settlement, "SETTLING_S", 0.1)
    server = private_valkey()
    (limiter,) = await fleet(server.url, 1)
    daily = Policy("daily", tokens=10, period_s=86_400, burst=10)
    for _ in range(10):
        await take(limiter, daily)
    server.kill()
    await until_away(limiter, daily)
    server.restart()
    await until(lambda: not limiter.degraded)
    assert not (await take(limiter, daily)).allowed


async def test_stopping_in_an_outage_settles_if_redis_is_there(
    open_store: OpenStore, private_valkey: MakeValkey
) -> None:
    server = private_valkey()
    store = await open_store(server.url, timeout=0.3)
    limiter = Limiter(store, workers_hint=1)
    await limiter.start()
    # A bucket that is full again is forgotten: it has to last until it is looked for.
    lasting = Policy("lasting", tokens=20, period_s=10, burst=20)
    server.suspend()
    await until_away(limiter)
    for _ in range(2):
        while not (await take(limiter, lasting)).allowed:
            await asyncio.sleep(0.02)
    server.resume()
    eventually(server.answers)
    await limiter.stop()
    assert await store.client.exists(keys.bucket("lasting", str(CLIENT), shadow=False))


async def test_fleet_without_redis_admits_no_more_than_the_rate(open_store: OpenStore) -> None:
    away = await open_store("redis://127.0.0.1:1/0")  # nothing listens there
    limiters = [Limiter(away, workers_hint=3) for _ in range(3)]
    policy = Policy("shared", tokens=60, period_s=1, burst=60)
    begun_s, over = time.monotonic(), asyncio.Event()
    asyncio.get_running_loop().call_later(1, over.set)
    admitted = sum(await asyncio.gather(*(offer(x, policy, over) for x in limiters)))
    assert 0 < admitted <= 60 * (time.monotonic() - begun_s)
    for limiter in limiters:
        await limiter.stop()
