"""The limiter on a real server: decisions, reloads of the script, outages and the way back."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from service.admission.limiter import Limiter
from service.admission.models import Charge, Decision, Policy, Subject
from service.store import keys
from service.store.client import Store

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
    assert [len(decision.would_deny) for decision in seen] == [0, 0, 1, 1]
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
    assert 0 < await store.client.pttl(key) <= 51
    for _ in range(500):
        if not await store.client.exists(key):
            break
        await asyncio.sleep(0.01)
    assert not await store.client.exists(key)


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


async def test_a_killed_worker_is_counted_no_longer_than_its_life(store: Store) -> None:
    beat = store.script("service.admission", "heartbeat", keys=1)
    await beat([keys.workers()], [0, "killed", 50])
    assert await beat([keys.workers()], [0, "alive", 60_000]) == 2
    await asyncio.sleep(0.06)
    assert await beat([keys.workers()], [0, "alive", 60_000]) == 1
