"""take.lua against bucket.py: the same numbers, whatever happened before."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.admission.bucket import Bucket
from service.settings import RedisSettings
from service.store.client import Store
from service.store.scripts import Script
from tests.support.broken.scripts import spoilt


@dataclass(frozen=True)
class Limit:
    """One bucket of one call; ``seed_us``: its stored arrival time relative to now, None: none."""

    interval_us: int
    burst: int
    cost: int
    shadow: bool
    seed_us: int | None


@st.composite
def limits(draw: st.DrawFn) -> Limit:
    burst = draw(st.integers(1, 50))
    # From one token a microsecond, where the script's own duration counts, to one in a day.
    interval_us = draw(st.integers(1, 2000) | st.integers(1, 86_400_000_000))
    capacity_us = burst * interval_us
    return Limit(
        interval_us=interval_us,
        burst=burst,
        cost=draw(st.integers(1, burst)),
        shadow=draw(st.booleans()),
        seed_us=draw(st.none() | st.integers(-1000, capacity_us + 1000) | st.just(3 * capacity_us)),
    )


class Session:
    """Hypothesis calls a plain function many times; the loop and the store outlive the calls."""

    def __init__(self, url: str) -> None:
        self.runner = asyncio.Runner()
        self.store = Store(RedisSettings(timeout=10.0), url=url)
        self.take = self.store.script("service.admission", "take", keys=None)

    def close(self) -> None:
        self.runner.run(self.store.close())
        self.runner.close()


@pytest.fixture
def session(redis_url: str) -> Iterator[Session]:
    opened = Session(redis_url)
    yield opened
    opened.close()


async def check(store: Store, take: Script, calls: list[list[Limit]]) -> None:
    client = store.client
    await client.flushall()
    seconds, micros = await client.time()
    tats: dict[str, int | None] = {}
    for number, limits in enumerate(calls):
        names = [f"{{t}}:{index}" for index in range(len(limits))]
        for name, limit in zip(names, limits, strict=True):
            if number == 0 and limit.seed_us is not None:
                seed_us = tats[name] = seconds * 1_000_000 + micros + limit.seed_us
                await client.set(name, seed_us)
        args = [
            arg
            for limit in limits
            for arg in (limit.interval_us, limit.burst, limit.cost, int(limit.shadow))
        ]
        now_us, allowed, *after = await take(names, args)
        expected = [
            Bucket(limit.interval_us, limit.burst).take(tats.get(name), now_us, limit.cost)
            for name, limit in zip(names, limits, strict=True)
        ]
        assert after[1::2] == [int(taken.fits) for taken in expected]
        assert allowed == all(
            taken.fits or limit.shadow for limit, taken in zip(limits, expected, strict=True)
        )
        for name, limit, taken, tat_us in zip(names, limits, expected, after[::2], strict=True):
            bucket = Bucket(limit.interval_us, limit.burst)
            charged = allowed and taken.fits
            assert tat_us == (taken.tat_us if charged else bucket.clamp(tats.get(name), now_us))
            if charged:
                tats[name] = tat_us
                # A key that goes before its bucket is full would give tokens away.
                assert await client.pexpiretime(name) in (-2, -(-tat_us // 1000))
                stored = await client.get(name)
                assert stored is None or int(stored) == tat_us


@given(st.lists(st.lists(limits(), min_size=1, max_size=3), min_size=1, max_size=5))
@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_script_agrees_with_the_arithmetic_in_every_digit(
    session: Session, calls: list[list[Limit]]
) -> None:
    session.runner.run(check(session.store, session.take, calls))


EMPTY = Limit(interval_us=1_000_000, burst=2, cost=1, shadow=False, seed_us=2_000_000)
ROOMY = Limit(interval_us=1_000_000, burst=3, cost=1, shadow=False, seed_us=None)
FAST = Limit(interval_us=7, burst=5, cost=1, shadow=False, seed_us=None)
WHOLE = Limit(interval_us=1_000_000, burst=2, cost=2, shadow=False, seed_us=None)
BEYOND = Limit(interval_us=1_000_000, burst=2, cost=2, shadow=False, seed_us=9_000_000)


@pytest.mark.parametrize(
    ("right", "wrong", "calls"),
    [
        ("if allowed == 1 and fits[i] == 1 then", "if fits[i] == 1 then", [[ROOMY, EMPTY]]),
        ("charged[i] - capacity <= now", "charged[i] - capacity < now", [[WHOLE]]),
        ("math.min(math.max(stored, now), now + capacity)", "math.max(stored, now)", [[BEYOND]]),
        ("math.max(stored, now)", "stored", [[Limit(10, 2, 1, False, -1000)]]),
        ("math.ceil(charged[i] / 1000)", "math.floor(charged[i] / 1000)", [[FAST], [ROOMY]]),
        ("ARGV[4 * i] ~= '1'", "true", [[Limit(10**6, 2, 1, True, 2 * 10**6)]]),
    ],
    ids=["not all or nothing", "one short", "no clamp", "credit from the past", "early", "shadow"],
)
def test_the_comparison_sees_a_script_with_one_fault(
    session: Session, right: str, wrong: str, calls: list[list[Limit]]
) -> None:
    broken = spoilt(session.store, "service.admission", "take", right, wrong)
    with pytest.raises(AssertionError):
        session.runner.run(check(session.store, broken, calls))
