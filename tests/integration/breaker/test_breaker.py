"""The fleet's breaker: several Breaker objects stand for several workers.

Time is passed by moving the stored instants back and the workers' clock on (``elapse``), so nothing
waits for 30 s. Random histories of the same rules: test_model.py.
"""

from __future__ import annotations

import asyncio

import pytest

from service.breaker.breaker import LONGEST_FORCE_S, LONGEST_PAUSE_S, Breaker
from service.breaker.models import Outcome, Permit
from service.deadline import CURRENT, Deadline
from service.errors import CircuitOpen
from service.settings import BreakerSettings
from service.store import keys
from service.store.client import Store
from tests.support.breaker import Clocks

SETTINGS = BreakerSettings(failure_threshold=3, recovery_seconds=30, probe_lease_seconds=9)
KEY = keys.breaker("payment")
INSTANTS = ("open_until", "probe_until", "pause_until", "force_until")


CLOCKS = Clocks()


@pytest.fixture
def fleet(store: Store) -> list[Breaker]:
    return [Breaker("payment", SETTINGS, store, clock=CLOCKS.local) for _ in range(4)]


async def elapse(store: Store, seconds: float) -> None:
    """Time passes for all; back it goes only in the server."""
    CLOCKS.local_s += max(seconds, 0)
    for field in INSTANTS:
        if await store.client.hexists(KEY, field):
            await store.client.hincrby(KEY, field, -round(seconds * 1_000_000))


async def call(breaker: Breaker, outcome: Outcome) -> None:
    await breaker.report(await breaker.acquire(), outcome)


async def trip(fleet: list[Breaker]) -> None:
    for breaker in fleet[:3]:
        await call(breaker, Outcome.FAIL)


async def permits(fleet: list[Breaker], rounds: int = 1) -> list[Permit]:
    """What a crowd is given that asks all at once."""
    asked = await asyncio.gather(
        *(breaker.acquire() for breaker in fleet * rounds), return_exceptions=True
    )
    assert all(isinstance(answer, Permit | CircuitOpen) for answer in asked)
    return [answer for answer in asked if isinstance(answer, Permit)]


async def refusal(breaker: Breaker) -> float:
    with pytest.raises(CircuitOpen) as caught:
        await breaker.acquire()
    assert caught.value.retry_after_s is not None
    return caught.value.retry_after_s


async def test_failures_in_a_row_on_three_workers_open_it_for_all(fleet: list[Breaker]) -> None:
    await call(fleet[0], Outcome.FAIL)
    await call(fleet[1], Outcome.FAIL)
    assert (await fleet[3].snapshot()).streak == 2
    await call(fleet[2], Outcome.FAIL)
    for breaker in fleet:
        assert 20 < await refusal(breaker) <= 30
    snapshot = await fleet[3].snapshot()
    assert (snapshot.state, snapshot.degraded, snapshot.forced) == ("open", False, False)
    assert 20_000 < snapshot.retry_after_ms <= 30_000


async def test_a_success_anywhere_starts_the_count_again(fleet: list[Breaker]) -> None:
    outcomes = [Outcome.FAIL, Outcome.FAIL, Outcome.OK, Outcome.FAIL, Outcome.FAIL]
    for breaker, outcome in zip(fleet * 2, outcomes, strict=False):
        await call(breaker, outcome)
    assert (await fleet[0].snapshot()).state == "closed"


async def test_the_same_failure_reported_again_counts_once(fleet: list[Breaker]) -> None:
    permit = await fleet[0].acquire()
    for _ in range(5):
        await fleet[0].report(permit, Outcome.FAIL)
    assert (await fleet[0].snapshot()).streak == 1


async def test_attempts_of_one_request_count_once_where_requests_are_counted(
    store: Store,
) -> None:
    by_request = SETTINGS.model_copy(update={"count": "requests"})
    breaker = Breaker("payment", by_request, store)
    for request in ("job one", "job one", "job one", "job two"):
        await breaker.report(await breaker.acquire(), Outcome.FAIL, request=request)
    assert (await breaker.snapshot()).streak == 2
    await breaker.report(await breaker.acquire(), Outcome.FAIL)  # nobody's: counts by itself
    assert (await breaker.snapshot()).state == "open"


async def test_attempts_count_each_by_itself_unless_told_otherwise(fleet: list[Breaker]) -> None:
    for breaker in fleet[:3]:
        await breaker.report(await breaker.acquire(), Outcome.FAIL, request="the same job")
    assert (await fleet[0].snapshot()).state == "open"


async def test_exactly_one_probe_in_the_fleet_after_recovery(
    fleet: list[Breaker], store: Store
) -> None:
    await trip(fleet)
    await elapse(store, 20)
    assert await permits(fleet, rounds=5) == []
    await elapse(store, 10)
    assert (await fleet[0].snapshot()).state == "half-open"
    (probe,) = await permits(fleet, rounds=5)
    assert probe.mode == "probe"
    assert 0 < await refusal(fleet[1]) <= 1
    await fleet[0].report(probe, Outcome.OK)
    assert len(await permits(fleet)) == len(fleet)


async def test_failed_probe_opens_for_the_whole_recovery_time(
    fleet: list[Breaker], store: Store
) -> None:
    await trip(fleet)
    await elapse(store, 30)
    await call(fleet[3], Outcome.FAIL)
    assert 20 < await refusal(fleet[0]) <= 30


async def test_neutral_probe_frees_its_place_and_decides_nothing(
    fleet: list[Breaker], store: Store
) -> None:
    await trip(fleet)
    await elapse(store, 30)
    first = await fleet[0].acquire()
    await fleet[0].report(first, Outcome.NEUTRAL)
    assert (await fleet[0].snapshot()).state == "half-open"
    second = await fleet[1].acquire()
    assert second.mode == "probe"
    await fleet[0].report(first, Outcome.OK)
    assert (await fleet[0].snapshot()).state == "half-open"


async def test_probe_of_a_dead_worker_is_replaced_after_its_lease(
    fleet: list[Breaker], store: Store
) -> None:
    await trip(fleet)
    await elapse(store, 30)
    lost = await fleet[0].acquire()
    await elapse(store, 4)
    assert await permits(fleet, rounds=3) == []
    await elapse(store, 5)
    (probe,) = await permits(fleet, rounds=3)
    await fleet[0].report(lost, Outcome.OK)
    assert (await fleet[1].snapshot()).state == "half-open"
    await fleet[1].report(probe, Outcome.OK)
    assert (await fleet[1].snapshot()).state == "closed"


async def test_late_reports_of_an_older_generation_change_nothing(
    fleet: list[Breaker], store: Store
) -> None:
    late = await permits(fleet)
    await trip(fleet)
    before = await store.client.hgetall(KEY)
    for breaker, permit, outcome in zip(fleet, late, [*Outcome, Outcome.OK], strict=True):
        await breaker.report(permit, outcome)
    assert await store.client.hgetall(KEY) == before

    await elapse(store, 30)
    probe = await fleet[0].acquire()
    for breaker, permit in zip(fleet, late, strict=True):
        await breaker.report(permit, Outcome.FAIL)
    await fleet[0].report(probe, Outcome.OK)
    for breaker, permit in zip(fleet, late, strict=True):
        await breaker.report(permit, Outcome.FAIL)
    snapshot = await fleet[0].snapshot()
    assert (snapshot.state, snapshot.streak) == ("closed", 0)


async def test_token_alone_keeps_a_stranger_from_judging_the_probe(
    fleet: list[Breaker], store: Store
) -> None:
    await trip(fleet)
    await elapse(store, 30)
    probe = await fleet[0].acquire()
    await fleet[1].report(Permit(probe.generation, "stranger", "probe"), Outcome.OK)
    assert (await fleet[0].snapshot()).state == "half-open"


async def test_permits_from_before_the_loss_of_the_key_stay_without_effect(
    fleet: list[Breaker], store: Store
) -> None:
    old = await permits(fleet)
    await store.client.flushall()
    fresh = await fleet[0].acquire()
    assert fresh.generation > old[0].generation
    for breaker, permit in zip(fleet, old, strict=True):
        await breaker.report(permit, Outcome.FAIL)
    assert (await fleet[0].snapshot()).streak == 0


async def test_a_clock_set_back_makes_no_wait_longer_than_its_rule(
    fleet: list[Breaker], store: Store
) -> None:
    await trip(fleet)
    await elapse(store, -3600)
    assert await refusal(fleet[0]) <= 30
    await elapse(store, 30)
    assert (await fleet[0].acquire()).mode == "probe"


async def test_pause_is_for_the_fleet_and_no_verdict(fleet: list[Breaker], store: Store) -> None:
    await fleet[0].pause(10)
    await fleet[1].pause(2)
    assert 5 < await refusal(fleet[2]) <= 10
    assert (await fleet[2].snapshot()).state == "closed"
    await elapse(store, 10)
    assert (await fleet[2].acquire()).mode == "normal"


async def test_no_pause_is_longer_than_the_longest(fleet: list[Breaker]) -> None:
    await fleet[0].pause(10 * LONGEST_PAUSE_S)
    assert await refusal(fleet[1]) <= LONGEST_PAUSE_S


async def test_pause_reaches_the_fleet_from_a_request_that_is_out_of_time(
    fleet: list[Breaker],
) -> None:
    CURRENT.set(Deadline.after(-1))
    await fleet[0].pause(10)
    CURRENT.set(None)
    assert await refusal(fleet[1]) > 5


async def test_force_beats_everything_and_ends_by_itself(
    fleet: list[Breaker], store: Store
) -> None:
    await fleet[0].force("open", 60, by="operator", reason="maintenance")
    assert 30 < await refusal(fleet[1]) <= 60
    assert (await fleet[1].snapshot()).forced
    await elapse(store, 60)
    await trip(fleet)
    await fleet[0].force("closed", 60, by="operator", reason="known to be well")
    forced = await fleet[2].acquire()
    assert forced.mode == "forced"
    await fleet[2].report(forced, Outcome.FAIL)
    await elapse(store, 5)
    assert (await fleet[3].snapshot()).state == "closed"
    await elapse(store, 20)
    assert (await fleet[3].acquire()).mode == "forced"
    await elapse(store, 35)
    assert (await fleet[3].acquire()).mode == "probe"
    with pytest.raises(ValueError, match="lasts up to"):
        await fleet[0].force("open", 2 * LONGEST_FORCE_S, by="operator", reason="x")


async def test_reset_closes_and_fences_off_what_came_before(fleet: list[Breaker]) -> None:
    early = await permits(fleet)
    await trip(fleet)
    await fleet[0].pause(100)
    await fleet[0].force("open", 60, by="operator", reason="x")
    await fleet[0].reset(by="operator", reason="all well")
    assert (await fleet[1].acquire()).mode == "normal"
    await fleet[1].report(early[0], Outcome.FAIL)
    assert (await fleet[1].snapshot()).streak == 0


async def test_report_arrives_although_the_request_is_cancelled_and_out_of_time(
    fleet: list[Breaker],
) -> None:
    breaker = fleet[0]
    permit = await breaker.acquire()
    CURRENT.set(Deadline.after(-1))
    report = asyncio.create_task(breaker.report(permit, Outcome.FAIL))
    await asyncio.sleep(0)
    report.cancel()
    await asyncio.gather(report, return_exceptions=True)
    CURRENT.set(None)
    await breaker.close()
    assert (await breaker.snapshot()).streak == 1
