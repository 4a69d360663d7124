"""The integer bucket against one of exact fractions, over schedules nobody would think of."""

from __future__ import annotations

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from service.admission.bucket import Bucket
from service.admission.models import Policy

SCHEDULES = st.lists(
    st.tuples(
        # Gaps of nothing at all, of microseconds, and of hours.
        st.just(0) | st.integers(0, 2000) | st.integers(0, 10**10),
        st.integers(1, 60),
    ),
    max_size=60,
)
POLICIES = st.builds(
    Policy,
    name=st.just("p"),
    tokens=st.integers(1, 5000),
    period_s=st.sampled_from([1, 60, 3600]),
    burst=st.integers(1, 60),
)
START_US = 1_700_000_000_000_000


class RationalBucket:
    """The textbook: tokens are a fraction, refilled continuously, capped at the burst."""

    def __init__(self, rate_per_us: Fraction, burst: int) -> None:
        self.rate_per_us, self.burst = rate_per_us, burst
        self.tokens, self.at_us = Fraction(burst), START_US

    def take(self, now_us: int, cost: int) -> bool:
        refilled = self.tokens + (now_us - self.at_us) * self.rate_per_us
        self.tokens, self.at_us = min(Fraction(self.burst), refilled), now_us
        if self.tokens < cost:
            return False
        self.tokens -= cost
        return True


@given(POLICIES, SCHEDULES)
def test_decides_like_a_bucket_of_exact_fractions(
    policy: Policy, schedule: list[tuple[int, int]]
) -> None:
    bucket = policy.bucket
    oracle = RationalBucket(Fraction(1, bucket.emission_interval_us), bucket.burst)
    now_us, tat_us = START_US, None
    for gap_us, asked in schedule:
        now_us, cost = now_us + gap_us, min(asked, bucket.burst)
        taken = bucket.take(tat_us, now_us, cost)
        assert taken.fits == oracle.take(now_us, cost)
        tat_us = taken.tat_us
        assert bucket.remaining(tat_us, now_us) == int(oracle.tokens)


@given(POLICIES, SCHEDULES)
def test_no_interval_admits_more_than_burst_plus_the_configured_rate(
    policy: Policy, schedule: list[tuple[int, int]]
) -> None:
    rate = Fraction(policy.tokens, policy.period_s * 1_000_000)
    now_us, tat_us = START_US, None
    admitted: list[tuple[int, int]] = []
    for gap_us, asked in schedule:
        now_us, cost = now_us + gap_us, min(asked, policy.burst)
        taken = policy.bucket.take(tat_us, now_us, cost)
        tat_us = taken.tat_us
        if taken.fits:
            admitted.append((now_us, cost))
    for first in range(len(admitted)):
        total = 0
        for at_us, cost in admitted[first:]:
            total += cost
            assert total <= policy.burst + rate * (at_us - admitted[first][0])


@given(POLICIES, SCHEDULES, st.integers(1, 60))
def test_the_told_wait_is_enough_and_a_microsecond_less_is_not(
    policy: Policy, schedule: list[tuple[int, int]], asked: int
) -> None:
    bucket, now_us, tat_us = policy.bucket, START_US, None
    for gap_us, cost in schedule:
        now_us += gap_us
        tat_us = bucket.take(tat_us, now_us, min(cost, bucket.burst)).tat_us
    cost = min(asked, bucket.burst)
    taken = bucket.take(tat_us, now_us, cost)
    if taken.fits:
        return
    wait_us = bucket.wait_us(taken.tat_us, now_us, cost)
    assert bucket.take(taken.tat_us, now_us + wait_us, cost).fits
    assert not bucket.take(taken.tat_us, now_us + wait_us - 1, cost).fits


@given(POLICIES, st.integers(-(10**12), 10**12), st.integers(1, 60))
def test_a_stored_time_from_another_life_reads_as_empty_or_full_and_its_wait_is_true(
    policy: Policy, offset_us: int, asked: int
) -> None:
    bucket, tat_us, cost = policy.bucket, START_US + offset_us, min(asked, policy.burst)
    assert 0 <= bucket.remaining(tat_us, START_US) <= bucket.burst
    wait_us = bucket.wait_us(tat_us, START_US, cost)
    assert bucket.take(tat_us, START_US + wait_us, cost).fits
    assert wait_us == 0 or not bucket.take(tat_us, START_US + wait_us - 1, cost).fits


def test_a_full_bucket_gives_its_burst_and_not_one_more() -> None:
    bucket, tat_us = Bucket(emission_interval_us=1_000_000, burst=3), None
    fits = []
    for _ in range(4):
        taken = bucket.take(tat_us, START_US, 1)
        tat_us = taken.tat_us
        fits.append(taken.fits)
    assert fits == [True, True, True, False]
