"""What a worker knows by itself: refusals that cost nothing, and its own breaker in an outage."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from scripts.devservers import EmbeddedValkey
from service.breaker.breaker import STRICT_S, Breaker
from service.breaker.mirror import ASK_AGAIN_S
from service.breaker.models import Outcome
from service.errors import CircuitOpen, StoreUnavailable
from service.settings import BreakerSettings
from service.store import keys
from service.store.client import Store
from service.store.scripts import Script
from tests.support.breaker import Clocks

OpenStore = Callable[..., Awaitable[Store]]
PrivateValkey = Callable[[], EmbeddedValkey]
SETTINGS = BreakerSettings(failure_threshold=3, recovery_seconds=30, probe_lease_seconds=9)


@pytest.fixture
def clocks() -> Clocks:
    return Clocks()


@pytest.fixture
def fleet(store: Store, clocks: Clocks) -> list[Breaker]:
    return [Breaker("payment", SETTINGS, store, clock=clocks.local) for _ in range(2)]


async def call(breaker: Breaker, outcome: Outcome) -> None:
    await breaker.report(await breaker.acquire(), outcome)


async def refusal(breaker: Breaker) -> float:
    with pytest.raises(CircuitOpen) as caught:
        await breaker.acquire()
    assert caught.value.retry_after_s is not None
    return caught.value.retry_after_s


async def scripts_run(store: Store) -> int:
    stats = await store.client.info("commandstats")
    return int(stats.get("cmdstat_evalsha", {}).get("calls", 0))


async def test_refusals_while_open_cost_no_call_and_tell_the_true_wait(
    fleet: list[Breaker], store: Store, clocks: Clocks
) -> None:
    for _ in range(3):
        await call(fleet[0], Outcome.FAIL)
    first = await refusal(fleet[1])
    before = await scripts_run(store)
    for _ in range(100):
        assert await refusal(fleet[1]) == pytest.approx(first)
    clocks.local_s += ASK_AGAIN_S / 2
    assert await refusal(fleet[1]) == pytest.approx(first - ASK_AGAIN_S / 2)
    assert await scripts_run(store) == before
    clocks.local_s += ASK_AGAIN_S
    crowd = [refusal(fleet[1]) for _ in range(50)]
    await asyncio.gather(*crowd)
    assert await scripts_run(store) == before + 1


async def test_who_only_wants_to_know_takes_no_permit_and_is_told_the_wait(
    fleet: list[Breaker], store: Store, clocks: Clocks
) -> None:
    for _ in range(3):
        await call(fleet[0], Outcome.FAIL)
    assert await fleet[1].refusal_s() == 0.0  # nobody has told this worker yet
    first = await refusal(fleet[1])
    assert await fleet[1].refusal_s() == pytest.approx(first)
    clocks.local_s += ASK_AGAIN_S
    # Now and then it looks, without asking for a permit.
    assert await fleet[1].refusal_s() == pytest.approx(first, abs=5)
    await fleet[0].reset(by="ann", reason="well again")
    clocks.local_s += ASK_AGAIN_S
    assert await fleet[1].refusal_s() == 0.0


async def test_the_one_probe_is_left_to_those_who_call(
    fleet: list[Breaker], store: Store, clocks: Clocks
) -> None:
    for _ in range(3):
        await call(fleet[0], Outcome.FAIL)
    await refusal(fleet[1])
    await store.client.hincrby(keys.breaker("payment"), "open_until", -30_000_000)
    clocks.local_s += ASK_AGAIN_S
    assert await fleet[1].refusal_s() == 0.0
    assert (await fleet[0].acquire()).mode == "probe"


@pytest.mark.parametrize("end", ["reset", "force closed", "probe"])
async def test_what_ends_the_refusals_reaches_every_worker_within_a_second(
    fleet: list[Breaker], store: Store, clocks: Clocks, end: str
) -> None:
    for _ in range(3):
        await call(fleet[0], Outcome.FAIL)
    for breaker in fleet:
        await refusal(breaker)
    if end == "reset":
        await fleet[0].reset(by="ann", reason="well again")
    elif end == "force closed":
        await fleet[0].force("closed", 60, by="ann", reason="well again")
    else:
        await store.client.hincrby(keys.breaker("payment"), "open_until", -30_000_000)
        clocks.local_s += ASK_AGAIN_S
        await call(fleet[0], Outcome.OK)
    await fleet[0].acquire()
    clocks.local_s += 1
    for _ in range(3):
        await fleet[1].acquire()


async def test_an_operators_open_reaches_a_worker_at_its_next_call(fleet: list[Breaker]) -> None:
    await fleet[1].acquire()
    await fleet[0].force("open", 60, by="ann", reason="maintenance")
    assert await refusal(fleet[1]) > 59


async def test_without_redis_each_worker_goes_by_its_own_view_and_comes_back(
    open_store: OpenStore, private_valkey: PrivateValkey, clocks: Clocks
) -> None:
    server = private_valkey()
    store = await open_store(server.url, timeout=2.0)
    breaker = Breaker("payment", SETTINGS, store, clock=clocks.local)
    await call(breaker, Outcome.FAIL)
    assert repr(breaker) == "<Breaker payment fleet>"
    server.kill()
    permit = await breaker.acquire()
    assert permit.mode == "local"
    await breaker.report(permit, Outcome.FAIL)
    await call(breaker, Outcome.FAIL)  # with the one from before the outage: three in a row
    assert 20 < await refusal(breaker) <= 30
    snapshot = await breaker.snapshot()
    assert (snapshot.state, snapshot.degraded) == ("open", True)
    assert repr(breaker) == "<Breaker payment local open>"
    server.restart()
    await until_back(breaker)
    # Redis has lost what it knew; the worker's own refusals hold a second longer.
    assert await refusal(breaker) == pytest.approx(STRICT_S)
    assert repr(breaker) == "<Breaker payment fleet>"
    clocks.local_s += STRICT_S / 2
    assert await refusal(breaker) == pytest.approx(STRICT_S / 2)
    clocks.local_s += STRICT_S / 2
    assert (await breaker.acquire()).mode == "normal"


async def test_a_probe_granted_to_a_worker_that_does_not_dare_is_given_back(
    open_store: OpenStore, private_valkey: PrivateValkey, clocks: Clocks
) -> None:
    server = private_valkey()
    store = await open_store(server.url, timeout=2.0)
    wary = Breaker("payment", SETTINGS, store, clock=clocks.local)
    other = Breaker("payment", SETTINGS, await open_store(server.url), clock=clocks.local)
    server.kill()
    for _ in range(3):
        await call(wary, Outcome.FAIL)
    server.restart()
    await until_back(wary)
    await until_back(other)
    for _ in range(3):
        await call(other, Outcome.FAIL)
    await store.client.hincrby(keys.breaker("payment"), "open_until", -30_000_000)
    assert await refusal(wary) == pytest.approx(STRICT_S)
    await wary.close()
    assert (await other.acquire()).mode == "probe"


async def test_a_worker_enters_an_outage_with_what_the_fleet_told_it(
    open_store: OpenStore, private_valkey: PrivateValkey, clocks: Clocks
) -> None:
    server = private_valkey()
    store = await open_store(server.url, timeout=2.0)
    fleet = [Breaker("payment", SETTINGS, store, clock=clocks.local) for _ in range(4)]
    for breaker in fleet[:3]:
        await call(breaker, Outcome.FAIL)
    await refusal(fleet[3])
    server.kill()
    clocks.local_s += ASK_AGAIN_S
    assert await refusal(fleet[3]) > 25  # told by the fleet
    assert await refusal(fleet[2]) > 25  # its own report was the third


async def test_a_probe_that_ends_in_an_outage_is_a_verdict_for_its_worker(
    open_store: OpenStore, private_valkey: PrivateValkey, clocks: Clocks
) -> None:
    server = private_valkey()
    store = await open_store(server.url, timeout=2.0)
    breaker = Breaker("payment", SETTINGS, store, clock=clocks.local)
    for _ in range(3):
        await call(breaker, Outcome.FAIL)
    await store.client.hincrby(keys.breaker("payment"), "open_until", -30_000_000)
    clocks.local_s += 30
    probe = await breaker.acquire()
    server.kill()
    await breaker.report(probe, Outcome.FAIL)
    assert await refusal(breaker) > 29


async def test_a_pause_told_by_the_fleet_holds_in_an_outage(
    open_store: OpenStore, private_valkey: PrivateValkey, clocks: Clocks
) -> None:
    server = private_valkey()
    store = await open_store(server.url, timeout=2.0)
    told, teller = (Breaker("payment", SETTINGS, store, clock=clocks.local) for _ in range(2))
    await teller.pause(20)
    await refusal(told)
    server.kill()
    clocks.local_s += ASK_AGAIN_S
    assert await refusal(told) == pytest.approx(20 - ASK_AGAIN_S, abs=1)
    assert (await told.snapshot()).state == "closed"


class LossyScript:
    """Of every two calls the first fails: its question or its answer gets lost."""

    def __init__(self, script: Script, lost: str) -> None:
        self._script = script
        self._lost = lost
        self._calls = 0

    async def __call__(self, keys: Sequence[str], args: Sequence[str | int | bytes]) -> Any:
        self._calls += 1
        fails = self._calls % 2
        if fails and self._lost == "question":
            raise StoreUnavailable
        reply = await self._script(keys, args)
        if fails:
            raise StoreUnavailable
        return reply


@pytest.mark.parametrize("lost", ["question", "answer"])
async def test_a_lost_message_is_no_outage_and_nothing_counts_twice(
    fleet: list[Breaker], store: Store, lost: str
) -> None:
    lossy = fleet[0]._fleet
    lossy._acquire = LossyScript(lossy._acquire, lost)  # type: ignore[assignment]
    lossy._report = LossyScript(lossy._report, lost)  # type: ignore[assignment]
    for streak in (1, 2):
        permit = await fleet[0].acquire()
        assert permit.mode == "normal"
        await fleet[0].report(permit, Outcome.FAIL)
        assert (await fleet[1].snapshot()).streak == streak
    await call(fleet[1], Outcome.FAIL)
    await store.client.hincrby(keys.breaker("payment"), "open_until", -30_000_000)
    assert (await fleet[0].acquire()).mode == "probe"  # and not: refused because of its own probe
    assert repr(fleet[0]) == "<Breaker payment fleet>"


async def until_back(breaker: Breaker) -> None:
    for _ in range(100):
        if not (await breaker.snapshot()).degraded:
            return
        await asyncio.sleep(0.1)
    raise AssertionError("the worker has not come back to the fleet's view")
