"""take.lua, refund.lua and settle.lua against bucket.py and against exact fractions.

The scripts are handed a time far ahead of the server's, so that schedules of days run at once and
no key expires on the way; the last tests let the server tell the time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.admission.models import Policy
from service.settings import RedisSettings
from service.store.client import Store
from service.store.scripts import Script
from tests.support.broken.scripts import spoilt

#: In the year 2100; any real time is long past by then.
START_US = 4_102_444_800_000_000


@dataclass(frozen=True)
class Limit:
    """One bucket of a call."""

    tokens: int
    period_s: int
    burst: int
    cost: int = 1
    shadow: bool = False

    @property
    def policy(self) -> Policy:
        return Policy("p", self.tokens, self.period_s, self.burst)

    @property
    def price_us(self) -> int:
        return self.cost * self.policy.emission_interval_us

    @property
    def terms(self) -> tuple[int, int, int]:
        return self.price_us, self.policy.bucket.capacity_us, int(self.shadow)


@dataclass(frozen=True)
class Step:
    """After ``gap_us``: ``verb`` for ``asked`` requests."""

    gap_us: int
    verb: str
    asked: int


class RationalBucket:
    """The textbook: tokens are a fraction, refilled continuously, capped at the burst."""

    def __init__(self, rate_per_us: Fraction, burst: int) -> None:
        self.rate_per_us, self.burst = rate_per_us, burst
        self.tokens, self.at_us = Fraction(burst), START_US

    def tokens_at(self, now_us: int) -> Fraction:
        refilled = self.tokens + (now_us - self.at_us) * self.rate_per_us
        return min(Fraction(self.burst), refilled)

    def change(self, now_us: int, tokens: int) -> None:
        self.tokens = min(Fraction(self.burst), self.tokens_at(now_us) + tokens)
        self.at_us = now_us


#: Rates whose interval is a whole number of µs, and any others, which are rounded down.
WHOLE = st.sampled_from([(1, 1), (5, 1), (100, 1), (1000, 1), (30, 60), (10, 60), (1, 3600)])
ANY = st.tuples(st.integers(1, 5000), st.sampled_from([1, 60, 3600, 86_400]))


@st.composite
def limits(draw: st.DrawFn, rates: st.SearchStrategy[tuple[int, int]]) -> Limit:
    tokens, period_s = draw(rates)
    burst = draw(st.integers(1, 40))
    return Limit(tokens, period_s, burst, draw(st.integers(1, burst)), draw(st.booleans()))


STEPS = st.lists(
    st.builds(
        Step,
        # Gaps of nothing at all, of microseconds, of seconds and of hours.
        gap_us=st.just(0)
        | st.integers(0, 2000)
        | st.integers(0, 3_000_000)
        | st.integers(0, 10**10),
        verb=st.sampled_from(["take"] * 5 + ["peek", "refund", "reset"]),
        asked=st.integers(1, 8),
    ),
    max_size=25,
)


class Session:
    """Hypothesis calls a plain function many times; the loop and the store outlive the calls."""

    def __init__(self, url: str) -> None:
        self.runner = asyncio.Runner()
        self.store = Store(RedisSettings(timeout=10.0), url=url)
        self.take = self.script("take")
        self.refund = self.script("refund")
        self.settle = self.script("settle")

    def script(self, name: str) -> Script:
        return self.store.script("service.admission", name, keys=None)

    def close(self) -> None:
        self.runner.run(self.store.close())
        self.runner.close()


@pytest.fixture
def session(redis_url: str) -> Iterator[Session]:
    opened = Session(redis_url)
    yield opened
    opened.close()


class Run:
    """The same steps through the scripts and through buckets of exact fractions."""

    def __init__(self, session: Session, limits: list[Limit], *, exact: bool) -> None:
        self.session, self.limits, self.exact = session, limits, exact
        self.names = [f"{{t}}:{number}" for number in range(len(limits))]
        self.buckets = [
            RationalBucket(Fraction(x.tokens, x.period_s * 1_000_000), x.burst) for x in limits
        ]
        self.now_us = START_US
        self.granted_last = 0

    async def all(self, steps: list[Step]) -> None:
        await self.session.store.client.flushall()
        for step in steps:
            self.now_us += step.gap_us
            await getattr(self, step.verb)(step.asked)

    async def reset(self, _asked: int) -> None:
        await self.session.store.client.delete(*self.names)
        for limit, bucket in zip(self.limits, self.buckets, strict=True):
            bucket.change(self.now_us, limit.burst)
        self.granted_last = 0

    async def refund(self, _asked: int) -> None:
        """One of the last granted; what a shadow bucket was charged is not told."""
        for limit, bucket, name in zip(self.limits, self.buckets, self.names, strict=True):
            if self.granted_last and not limit.shadow:
                await self.session.refund([name], [self.now_us, limit.price_us])
                bucket.change(self.now_us, limit.cost)
        self.granted_last = max(0, self.granted_last - 1)

    async def peek(self, _asked: int) -> None:
        before = await self.session.store.client.mget(self.names)
        await self.take(0)
        assert await self.session.store.client.mget(self.names) == before

    async def take(self, asked: int) -> None:
        """Every grant is covered by the fractions; ``exact``: every denial is too."""
        terms = [term for limit in self.limits for term in limit.terms]
        at_us, granted, *state = await self.session.take(self.names, [self.now_us, asked, *terms])
        assert at_us == self.now_us
        assert 0 <= granted <= asked
        for number, limit in enumerate(self.limits):
            charged = min(granted, state[2 * number + 1])
            arrival_us = state[2 * number] + charged * limit.price_us
            await self.compare(number, charged, arrival_us)
        self.granted_last = granted or self.granted_last
        if self.exact and granted < asked:
            assert any(
                bucket.tokens_at(self.now_us) < limit.cost
                for limit, bucket in zip(self.limits, self.buckets, strict=True)
                if not limit.shadow
            )

    async def compare(self, number: int, charged: int, arrival_us: int) -> None:
        limit, bucket, name = self.limits[number], self.buckets[number], self.names[number]
        assert charged * limit.cost <= bucket.tokens_at(self.now_us)
        bucket.change(self.now_us, -charged * limit.cost)
        if charged:
            assert int(await self.session.store.client.get(name)) == arrival_us
            # A key that goes before its bucket is full would give tokens away.
            expires_ms = await self.session.store.client.pexpiretime(name)
            assert expires_ms == -(-arrival_us // 1000)
        left = limit.policy.bucket.remaining(arrival_us, self.now_us)
        assert left <= bucket.tokens_at(self.now_us)
        if self.exact:
            assert left > bucket.tokens_at(self.now_us) - 1


async def run(session: Session, limits: list[Limit], steps: list[Step], *, exact: bool) -> None:
    await Run(session, limits, exact=exact).all(steps)


HARD = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


def test_never_more_than_exact_fractions_allow_at_any_rate(session: Session) -> None:
    @HARD
    @given(st.lists(limits(ANY), min_size=1, max_size=3), STEPS)
    def check(limits: list[Limit], steps: list[Step]) -> None:
        session.runner.run(run(session, limits, steps, exact=False))

    check()


def test_never_a_token_fewer_where_the_rate_is_whole(session: Session) -> None:
    @HARD
    @given(st.lists(limits(WHOLE), min_size=1, max_size=3), STEPS)
    def check(limits: list[Limit], steps: list[Step]) -> None:
        session.runner.run(run(session, limits, steps, exact=True))

    check()


def test_several_at_once_are_granted_as_if_one_after_the_other(session: Session) -> None:
    async def compare(limits: list[Limit], asked: list[tuple[int, int]]) -> None:
        await session.store.client.flushall()
        terms = [term for limit in limits for term in limit.terms]
        together = [f"{{a}}:{number}" for number in range(len(limits))]
        single = [f"{{b}}:{number}" for number in range(len(limits))]
        now_us = START_US
        for gap_us, number in asked:
            now_us += gap_us
            _, granted, *_ = await session.take(together, [now_us, number, *terms])
            ones = [(await session.take(single, [now_us, 1, *terms]))[1] for _ in range(number)]
            assert granted == sum(ones)
            assert ones == sorted(ones, reverse=True)
            mget = session.store.client.mget
            assert await mget(together) == await mget(single)

    @HARD
    @given(
        st.lists(limits(ANY), min_size=1, max_size=3),
        st.lists(st.tuples(st.integers(0, 3_000_000), st.integers(1, 12)), max_size=6),
    )
    def check(limits: list[Limit], asked: list[tuple[int, int]]) -> None:
        session.runner.run(compare(limits, asked))

    check()


TEN = Limit(10, 1, 10)
ROOMY, NARROW = Limit(10, 60, 10), Limit(10, 60, 3)
TRIAL = replace(NARROW, shadow=True)
BURSTS = [Step(0, "take", 8), Step(0, "take", 8), Step(50_000, "take", 3), Step(10**9, "take", 8)]
MIXED = [
    Step(0, "peek", 1),
    Step(0, "take", 4),
    Step(0, "refund", 1),
    Step(10_000, "peek", 1),
    Step(0, "take", 8),
]


@pytest.mark.parametrize(
    ("name", "right", "wrong", "limits", "steps"),
    [
        ("take", "math.min(granted, room[i])\n  if charged", "room[i]\n  if charged",
         [ROOMY, NARROW], BURSTS),
        ("take", "math.floor((now", "math.ceil((now", [TEN], BURSTS),
        ("take", "- current[i]) / price[i])", "- current[i]) / price[i]) - 1", [TEN], BURSTS),
        ("take", "math.max(tonumber(redis.call('GET', KEYS[i]) or now), now)",
         "tonumber(redis.call('GET', KEYS[i]) or now)", [TEN], [*BURSTS, *BURSTS]),
        ("take", "math.ceil(arrival / 1000)", "math.floor(arrival / 1000) - 1", [TEN], BURSTS),
        ("take", "ARGV[3 * i + 2] ~= '1'", "true", [ROOMY, TRIAL], BURSTS),
        ("take", "if charged > 0 then", "if true then", [TEN], MIXED),
        ("refund", "stored - tonumber(ARGV[i + 1])", "stored - 2 * tonumber(ARGV[i + 1])", [TEN],
         MIXED),
    ],
    ids=["not all or nothing", "one too many", "one short", "credit from the past",
         "gone too early", "shadow", "peek writes", "double refund"],
)  # fmt: skip
def test_the_comparison_sees_a_script_with_one_fault(
    session: Session, name: str, right: str, wrong: str, limits: list[Limit],
    steps: list[Step],
) -> None:  # fmt: skip
    session.runner.run(run(session, limits, steps, exact=True))
    setattr(session, name, spoilt(session.store, "service.admission", name, right, wrong))
    with pytest.raises(AssertionError):
        session.runner.run(run(session, limits, steps, exact=True))


def test_settling_charges_down_to_empty_and_recalls_what_is_ahead(session: Session) -> None:
    client = session.store.client
    capacity_us = 10_000_000

    async def settle(stored_ahead_us: int, ahead_us: int, owed_us: int) -> int:
        await client.delete("b")
        if stored_ahead_us:
            await client.set("b", START_US + stored_ahead_us)
        await session.settle(["b"], [START_US, ahead_us, owed_us, capacity_us])
        stored = await client.get("b")
        return int(stored) - START_US if stored else 0

    async def check() -> None:
        assert await settle(0, 0, 0) == 0
        assert await settle(2_000_000, 0, 3_000_000) == 5_000_000
        assert await settle(0, 0, 3_000_000) == 3_000_000
        assert await settle(9_000_000, 0, 3_000_000) == capacity_us
        assert await settle(12_000_000, 0, 3_000_000) == 12_000_000  # beyond empty stays
        assert await settle(1_000_000, 4_000_000, 0) == 4_000_000
        assert await settle(5_000_000, 4_000_000, 0) == 5_000_000

    session.runner.run(check())


def test_without_a_time_the_script_asks_the_servers_clock(session: Session) -> None:
    async def check() -> None:
        client = session.store.client
        seconds, micros = await client.time()
        now_us, granted, before_us, _ = await session.take(["b"], [0, 1, *TEN.terms])
        assert 0 <= now_us - (seconds * 1_000_000 + micros) < 10_000_000
        assert (granted, before_us) == (1, now_us)
        assert await client.pexpiretime("b") in (-2, -(-(now_us + TEN.price_us) // 1000))

    session.runner.run(check())
