"""A worker's share while Redis is away: bounded by the rate, in time and in memory."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.admission import fallback
from service.admission.fallback import LocalShare
from service.admission.models import Charge, Policy, Subject
from service.errors import StoreUnavailable

SECOND_US = 1_000_000
TEN = Policy("ten", tokens=10, period_s=1, burst=10)


class Clock:
    now_us = 5 * SECOND_US

    def __call__(self) -> int:
        return self.now_us


@pytest.fixture
def clock() -> Clock:
    return Clock()


def charge(policy: Policy = TEN, value: str = "a", cost: int = 1) -> Charge:
    return Charge(policy, Subject("client", value), cost)


def drain(share: LocalShare, *charges: Charge) -> int:
    """How many decisions in a row are admitted."""
    admitted = 0
    while share.take(charges or [charge()]).allowed:
        admitted += 1
    return admitted


def test_an_outage_begins_with_empty_buckets_and_fills_them_by_the_share(clock: Clock) -> None:
    share = LocalShare(workers=2, clock_us=clock)
    assert drain(share) == 0
    clock.now_us += SECOND_US // 2
    assert drain(share) == 2  # half a second of ten a second, between two
    clock.now_us += 60 * SECOND_US
    assert drain(share) == 5  # a long quiet time holds the share of the burst
    assert repr(share) == "<LocalShare 1/2 active buckets=1>"


def test_a_bucket_first_asked_late_has_filled_since_the_outage_began(clock: Clock) -> None:
    share = LocalShare(workers=2, clock_us=clock)
    drain(share)
    clock.now_us += SECOND_US
    assert drain(share, charge(value="b")) == 5


def test_reset_makes_the_next_outage_begin_empty(clock: Clock) -> None:
    share = LocalShare(workers=1, clock_us=clock)
    drain(share)
    clock.now_us += 10 * SECOND_US
    share.reset()
    assert not share.active
    assert drain(share) == 0


def test_denied_request_leaves_other_limits_untouched(clock: Clock) -> None:
    slow = replace(TEN, name="slow", period_s=1000)
    share = LocalShare(workers=1, clock_us=clock)
    drain(share)
    clock.now_us += SECOND_US
    assert not share.take([charge(), charge(slow)]).allowed
    assert drain(share) == 10


def test_the_told_state_is_that_of_the_share(clock: Clock) -> None:
    share = LocalShare(workers=2, clock_us=clock)
    denied = share.take([charge()])
    (state,) = denied.violated
    assert (denied.degraded, state.remaining, state.wait_ms, state.refill_ms) == (
        True, 0, 200, 1000,
    )  # fmt: skip
    clock.now_us += 200_000
    assert share.take([charge()]).states[0].remaining == 0


def test_what_another_limit_denied_is_told_as_still_there(clock: Clock) -> None:
    share = LocalShare(workers=1, clock_us=clock)
    drain(share)
    clock.now_us += SECOND_US
    slow = replace(TEN, name="slow", period_s=1000)
    states = share.take([charge(), charge(slow)]).states
    assert [state.remaining for state in states] == [10, 0]


def test_closed_refuses_and_open_admits_without_counting(clock: Clock) -> None:
    share = LocalShare(workers=1, clock_us=clock)
    with pytest.raises(StoreUnavailable) as caught:
        share.take([charge(replace(TEN, on_outage="closed"))])
    assert caught.value.retry_after_s == 1.0
    free = charge(replace(TEN, on_outage="open"))
    assert all(share.take([free]).allowed for _ in range(100))


def test_shadow_policies_never_deny_and_never_close(clock: Clock) -> None:
    share = LocalShare(workers=1, clock_us=clock)
    for mode in ("local-share", "closed"):
        decision = share.take([charge(replace(TEN, shadow=True, on_outage=mode))])
        assert decision.allowed
        assert len(decision.would_deny) == 1


def test_memory_is_bounded_and_forgetting_gives_nothing_away(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fallback, "MOST_BUCKETS", 3)
    share = LocalShare(workers=1, clock_us=clock)
    drain(share)
    clock.now_us += SECOND_US
    assert drain(share, charge(value="first")) == 10
    for number in range(5):
        share.take([charge(value=f"minted-{number}")])
    assert repr(share) == "<LocalShare 1/1 active buckets=3>"
    assert drain(share, charge(value="first")) == 0


@given(
    workers=st.integers(1, 5),
    burst=st.integers(1, 20),
    schedule=st.lists(st.tuples(st.integers(0, 400_000), st.integers(0, 4)), max_size=80),
)
def test_the_fleet_admits_at_most_the_rate_over_the_outage(
    workers: int, burst: int, schedule: list[tuple[int, int]]
) -> None:
    clock = Clock()
    policy = replace(TEN, burst=burst)
    fleet = [LocalShare(workers=workers, clock_us=clock) for _ in range(workers)]
    begun_us, admitted = clock.now_us, 0
    for share in fleet:
        share.take([charge(policy)])
    for gap_us, worker in schedule:
        clock.now_us += gap_us
        cost = 1 + (gap_us + worker) % burst
        if fleet[worker % workers].take([charge(policy, cost=cost)]).allowed:
            admitted += cost
        assert admitted <= Fraction(policy.tokens * (clock.now_us - begun_us), SECOND_US)
