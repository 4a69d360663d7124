"""The limiter on a real server: decisions, reloads of the script, outages and the way back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace

import pytest

from service.admission import call, denials
from service.admission import limiter as limiting
from service.admission.limiter import Limiter
from service.admission.models import Charge, Decision, Policy, Subject
from service.store import keys
from service.store.client import Store
from service.store.scripts import Script
from tests.support.broken.scripts import spoilt
from tests.support.waiting import until

OpenStore = Callable[..., Awaitable[Store]]
#: So slow that no token returns while a test runs.
SLOW = Policy("slow", tokens=4, period_s=86_400, burst=4)
OTHER = replace(SLOW, name="other", tokens=2, burst=2)
CLIENT = Subject("client", "ip:10.0.0.1")


@pytest.fixture
def limiter(store: Store) -> Limiter:
    return Limiter(store, workers_hint=1)


async def take(limiter: Limiter, *policies: Policy, subject: Subject = CLIENT) -> Decision:
    return await limiter.take([Charge(policy, subject) for policy in policies])


async def test_burst_is_admitted_then_denied_with_the_true_wait(limiter: Limiter) -> None:
    remaining = [(await take(limiter, SLOW)).states[0].remaining for _ in range(4)]
    assert remaining == [3, 2, 1, 0]
    denied = await take(limiter, SLOW)
    assert not denied.allowed
    (state,) = denied.violated
    interval_s = 86_400 / 4
    assert interval_s - 60 < denied.retry_after_s <= interval_s
    assert state.refill_ms > 3 * state.wait_ms


async def test_denied_request_leaves_other_limits_untouched(limiter: Limiter) -> None:
    await take(limiter, OTHER)
    await take(limiter, OTHER)
    denied = await take(limiter, SLOW, OTHER)
    assert [s.policy.name for s in denied.violated] == ["other"]
    assert (await take(limiter, SLOW)).states[0].remaining == 3


async def test_subjects_and_policies_do_not_share_buckets(limiter: Limiter) -> None:
    for _ in range(2):
        assert (await take(limiter, OTHER)).allowed
    assert (await take(limiter, OTHER, subject=Subject("client", "ip:10.0.0.2"))).allowed
    assert (await take(limiter, OTHER, subject=Subject("fleet"))).allowed
    assert not (await take(limiter, OTHER)).allowed


async def test_shadow_policy_counts_but_never_denies(limiter: Limiter) -> None:
    trial = replace(OTHER, shadow=True)
    seen = [await take(limiter, SLOW, trial) for _ in range(4)]
    assert [decision.allowed for decision in seen] == [True] * 4
    assert [decision.states[1].wait_ms > 0 for decision in seen] == [False, False, True, True]
    assert not any(decision.violated for decision in seen)
    # Enforcing it begins with a full bucket.
    assert (await take(limiter, OTHER)).states[0].remaining == 1


async def test_waiting_exactly_as_told_is_enough(limiter: Limiter) -> None:
    quick = Policy("quick", tokens=50, period_s=1, burst=1)
    for _ in range(10):
        await take(limiter, quick)
        denied = await take(limiter, quick)
        if denied.allowed:  # the machine was away for a whole interval
            continue
        await asyncio.sleep(denied.states[0].wait_ms / 1000)
        assert (await take(limiter, quick)).allowed


async def test_same_bucket_twice_in_one_decision_is_refused(limiter: Limiter) -> None:
    with pytest.raises(ValueError, match="twice"):
        await take(limiter, SLOW, SLOW)


async def test_no_charges_need_no_redis(limiter: Limiter) -> None:
    assert await limiter.take([]) == Decision(allowed=True, states=())


async def test_script_flush_is_no_incident(limiter: Limiter, store: Store) -> None:
    await take(limiter, SLOW)
    await store.client.script_flush()
    decision = await take(limiter, SLOW)
    assert (decision.degraded, decision.states[0].remaining) == (False, 2)


async def test_a_lowered_burst_reads_as_empty_and_tells_the_true_wait(limiter: Limiter) -> None:
    for _ in range(4):
        await take(limiter, SLOW)
    lowered = await take(limiter, replace(SLOW, burst=1))
    assert not lowered.allowed
    assert lowered.states[0].remaining == 0
    assert 86_400 - 60 < lowered.retry_after_s <= 86_400


async def test_bucket_disappears_when_it_is_full_again(limiter: Limiter, store: Store) -> None:
    quick = Policy("quick", tokens=20, period_s=1, burst=20)
    await take(limiter, quick)
    key = keys.bucket("quick", str(CLIENT), shadow=False)
    # Gone already on a busy machine; never without an end.
    assert await store.client.pttl(key) in {-2, *range(52)}

    async def gone() -> bool:
        return not await store.client.exists(key)

    await until(gone)


async def test_workers_find_each_other_and_leave(open_store: OpenStore, redis_url: str) -> None:
    stores = [await open_store(redis_url, timeout=5.0) for _ in range(3)]
    fleet = [Limiter(store, workers_hint=1) for store in stores]
    for limiter in fleet:
        await limiter.start()
    assert [limiter.workers for limiter in fleet] == [1, 2, 3]
    await fleet[0].stop()
    assert await stores[0].client.zcard(keys.workers()) == 2
    await fleet[0].start()
    assert fleet[0].workers == 3
    for limiter in fleet:
        await limiter.stop()
    assert not await stores[0].client.exists(keys.workers())


async def test_a_heartbeat_that_fails_for_a_reason_nobody_thought_of_is_not_the_last(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limiting, "HEARTBEAT_S", 0.02)
    limiter = Limiter(store, workers_hint=1)
    await limiter.start()
    look, beats = store.nodes, 0

    def stumbling() -> tuple[str, ...]:
        nonlocal beats
        beats += 1
        if beats == 1:
            raise RecursionError
        return look()

    monkeypatch.setattr(store, "nodes", stumbling)
    await until(lambda: beats > 2)
    await limiter.stop()


async def test_a_killed_worker_is_counted_no_longer_than_its_life(store: Store) -> None:
    beat = store.script("service.admission", "heartbeat", keys=1)
    await beat([keys.workers()], [0, "killed", 1000])
    assert await beat([keys.workers()], [0, "alive", 60_000]) == [2, 0]

    async def alone() -> bool:
        live, place = await beat([keys.workers()], [0, "alive", 60_000])
        return (live, place) == (1, 0)

    await until(alone)


async def commands(store: Store) -> int:
    """How many scripts the server has run."""
    return sum(
        int(stats["calls"])
        for name, stats in (await store.client.info("commandstats")).items()
        if name.startswith("cmdstat_eval")
    )


@pytest.fixture
async def fleet(open_store: OpenStore, redis_url: str) -> AsyncIterator[tuple[Limiter, Limiter]]:
    stores = [await open_store(redis_url, timeout=5.0) for _ in range(2)]
    one, other = (Limiter(store, workers_hint=2) for store in stores)
    yield one, other
    await one.stop()
    await other.stop()


async def drain(limiter: Limiter, charge: Charge) -> int:
    """Until it is denied without Redis; how many were admitted."""
    admitted = 0
    while limiter.deny_locally((charge,)) is None:
        admitted += (await limiter.take((charge,))).allowed
    return admitted


async def test_a_flood_is_denied_without_redis(limiter: Limiter, store: Store) -> None:
    charge = Charge(SLOW, CLIENT)
    assert await drain(limiter, charge) == 4
    before = await commands(store)
    for _ in range(1000):
        denial = limiter.deny_locally((charge,))
        assert denial is not None
        assert (denial.allowed, denial.local) == (False, True)
        assert 86_400 / 4 - 60 < denial.retry_after_s <= 86_400 / 4
    assert await commands(store) == before


async def test_reset_fills_the_bucket_here_at_once_and_elsewhere_within_a_second(
    fleet: tuple[Limiter, Limiter],
) -> None:
    here, there = fleet
    charge = Charge(SLOW, CLIENT)
    await drain(here, charge)
    await drain(there, charge)
    assert await here.reset(SLOW, CLIENT)
    assert here.deny_locally((charge,)) is None
    await asyncio.sleep(1.0)  # as long as others may deny from memory at the most
    assert there.deny_locally((charge,)) is None
    assert (await there.take((charge,))).allowed
    assert not await here.reset(OTHER, CLIENT)


async def test_refund_gives_back_to_every_bucket_and_never_more_than_full(
    fleet: tuple[Limiter, Limiter],
) -> None:
    here, there = fleet
    charges = (Charge(SLOW, CLIENT, 3), Charge(OTHER, CLIENT))
    await here.take(charges)
    assert not (await here.take(charges)).allowed
    await here.refund(charges)
    assert here.deny_locally(charges) is None
    assert [s.remaining for s in (await there.peek(charges)).states] == [4, 2]
    await here.refund(charges)
    assert [s.remaining for s in (await there.peek(charges)).states] == [4, 2]


async def test_peek_tells_what_take_would_and_charges_nothing(limiter: Limiter) -> None:
    charges = (Charge(SLOW, CLIENT), Charge(OTHER, CLIENT, 2))
    for _ in range(3):
        seen = await limiter.peek(charges)
        assert (seen.allowed, [s.remaining for s in seen.states]) == (True, [4, 2])
    await limiter.take(charges)
    seen = await limiter.peek(charges)
    assert not seen.allowed
    assert [(s.policy.name, s.remaining) for s in seen.violated] == [("other", 0)]


async def test_a_raised_burst_is_admitted_at_once_in_spite_of_what_is_known(
    limiter: Limiter,
) -> None:
    await drain(limiter, Charge(SLOW, CLIENT))
    raised = Charge(replace(SLOW, burst=6), CLIENT)
    assert await drain(limiter, raised) == 2


async def test_fleet_and_client_policies_are_one_call_on_one_server(
    limiter: Limiter, store: Store
) -> None:
    charges = (Charge(SLOW, CLIENT), Charge(replace(OTHER, scope="fleet"), Subject("fleet")))
    before = await commands(store)
    decisions = await asyncio.gather(*(limiter.take(charges) for _ in range(3)))
    assert [decision.allowed for decision in decisions] == [True, True, False]
    # The first time the script is unknown.
    assert await commands(store) - before <= 2
    assert [s.remaining for s in (await limiter.peek(charges)).states] == [2, 0]


async def test_many_requests_of_one_bucket_share_a_few_calls(
    limiter: Limiter, store: Store
) -> None:
    wide = Charge(Policy("wide", tokens=10_000, period_s=1, burst=10_000), CLIENT)
    await limiter.take((wide,))
    before = await commands(store)

    async def client() -> None:
        for _ in range(20):
            assert (await limiter.take((wide,))).allowed

    await asyncio.gather(*(client() for _ in range(64)))
    assert await commands(store) - before <= 64 * 20 / 8


async def test_a_server_that_refuses_time_in_scripts_is_asked_beside_them(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SUBSCRIBE is refused in scripts by every server, in the words that TIME is by some."""
    names = {"take", "refund", "settle", "heartbeat"}

    def spoilt_script(package: str, name: str, *, keys: int | None) -> Script:
        assert name in names
        return spoilt(store, package, name, "redis.call('TIME')", "redis.call('SUBSCRIBE', 'x')")

    monkeypatch.setattr(store, "script", spoilt_script)
    limiter = Limiter(store, workers_hint=1)
    await limiter.start()
    assert limiter.workers == 1
    charge = Charge(SLOW, CLIENT)
    decisions = await asyncio.gather(*(limiter.take((charge,)) for _ in range(6)))
    assert [(d.allowed, d.degraded) for d in decisions] == [(True, False)] * 4 + [
        (False, False)
    ] * 2
    seconds, _ = await store.client.time()
    assert abs(decisions[0].decided_at_us / 1_000_000 - seconds) < 60
    await limiter.refund((charge,))
    assert (await limiter.peek((charge,))).states[0].remaining == 1
    await limiter.stop()


async def test_memory_stays_flat_under_a_flood_of_new_principals(
    limiter: Limiter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(denials, "MOST_ENTRIES", 100)
    monkeypatch.setattr(call, "MOST_CALLS", 100)
    minted = [Charge(SLOW, Subject("client", f"minted-{number}")) for number in range(1000)]
    for start in range(0, 1000, 100):
        await asyncio.gather(*(limiter.take((charge,)) for charge in minted[start : start + 100]))
    assert limiter.status().known_buckets == 100
    assert len(limiter._calls) == 100
