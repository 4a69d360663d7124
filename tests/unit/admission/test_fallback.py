"""A worker's share while Redis is away: bounded by the rate, in time and in memory."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.admission import fallback
from service.admission.fallback import LocalShare, Place
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


def begun(workers: int, clock: Clock, *, number: int = 0) -> LocalShare:
    share = LocalShare(clock_us=clock)
    share.begin(Place(number, workers))
    return share


def charge(policy: Policy = TEN, value: str = "a", cost: int = 1) -> Charge:
    return Charge(policy, Subject("client", value), cost)


def drain(share: LocalShare, *charges: Charge) -> int:
    """How many decisions in a row are admitted."""
    admitted = 0
    while share.take(charges or [charge()]).allowed:
        admitted += 1
    return admitted


def test_an_outage_begins_with_empty_buckets_and_fills_them_by_the_share(clock: Clock) -> None:
    share = begun(2, clock)
    assert drain(share) == 0
    clock.now_us += SECOND_US // 2
    assert drain(share) == 2  # half a second of ten a second, between two
    clock.now_us += 60 * SECOND_US
    assert drain(share) == 5  # a long quiet time holds the share of the burst
    assert repr(share) == "<LocalShare 1/2 active buckets=1>"


def test_a_bucket_first_asked_late_has_filled_since_the_outage_began(clock: Clock) -> None:
    share = begun(2, clock)
    drain(share)
    clock.now_us += SECOND_US
    assert drain(share, charge(value="b")) == 5


def test_the_next_outage_begins_empty(clock: Clock) -> None:
    share = begun(1, clock)
    clock.now_us += SECOND_US
    assert drain(share) == 10
    clock.now_us += 10 * SECOND_US
    share.end()
    assert not share.active
    share.begin(Place(0, 1))
    assert drain(share) == 0


def test_denied_request_leaves_other_limits_untouched(clock: Clock) -> None:
    slow = replace(TEN, name="slow", period_s=1000)
    share = begun(1, clock)
    drain(share)
    clock.now_us += SECOND_US
    assert not share.take([charge(), charge(slow)]).allowed
    assert drain(share) == 10


def test_the_told_state_is_that_of_the_share(clock: Clock) -> None:
    share = begun(2, clock)
    denied = share.take([charge()])
    (state,) = denied.violated
    assert (denied.degraded, state.remaining, state.wait_ms, state.refill_ms) == (
        True, 0, 200, 1000,
    )  # fmt: skip
    clock.now_us += 200_000
    assert share.take([charge()]).states[0].remaining == 0


def test_what_another_limit_denied_is_told_as_still_there(clock: Clock) -> None:
    share = begun(1, clock)
    drain(share)
    clock.now_us += SECOND_US
    slow = replace(TEN, name="slow", period_s=1000)
    states = share.take([charge(), charge(slow)]).states
    assert [state.remaining for state in states] == [10, 0]


def test_closed_refuses_and_open_admits_without_counting(clock: Clock) -> None:
    share = begun(1, clock)
    with pytest.raises(StoreUnavailable) as caught:
        share.take([charge(replace(TEN, on_outage="closed"))])
    assert caught.value.retry_after_s == 1.0
    free = charge(replace(TEN, on_outage="open"))
    assert all(share.take([free]).allowed for _ in range(100))
    assert not list(share.owing())


def test_shadow_policies_never_deny_and_never_close(clock: Clock) -> None:
    share = begun(1, clock)
    for mode in ("local-share", "closed"):
        decision = share.take([charge(replace(TEN, shadow=True, on_outage=mode))])
        assert decision.allowed
        assert decision.states[0].wait_ms > 0
    assert not list(share.owing())  # nor owe what they had no room for


def test_an_outage_begins_when_the_first_lost_batch_went_out(clock: Clock) -> None:
    share = LocalShare(clock_us=clock)
    share.begin(Place(0, 2), since_us=clock.now_us - SECOND_US // 2)
    assert drain(share) == 2


def test_memory_is_bounded_and_no_debt_is_forgotten(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fallback, "MOST_BUCKETS", 3)
    share = begun(1, clock)
    clock.now_us += SECOND_US
    for value in ("first", "second", "third"):
        assert drain(share, charge(value=value)) == 10
    assert drain(share, charge(value="minted")) == 0  # rather than lose a debt
    assert [debt.owed_us for debt in share.owing()] == [SECOND_US] * 3
    # When the oldest bucket would be full again in any case, its place is free.
    clock.now_us += SECOND_US
    assert drain(share, charge(value="minted")) == 10
    assert repr(share) == "<LocalShare 1/1 active buckets=3>"
    # And it is the one that was used last that stays: the second is used again, the third is not.
    clock.now_us += SECOND_US // 2
    assert drain(share, charge(value="second")) == 10
    clock.now_us += SECOND_US // 2
    assert drain(share, charge(value="newcomer")) == 10


def test_what_was_admitted_is_owed_until_it_is_settled(clock: Clock) -> None:
    share = begun(2, clock)
    clock.now_us += SECOND_US
    assert drain(share) == 5
    (debt,) = share.owing()
    assert (debt.key, debt.owed_us) == (charge().key, 5 * SECOND_US // 10)
    clock.now_us += SECOND_US // 5
    assert drain(share) == 1
    share.settled(debt)
    (rest,) = share.owing()
    assert rest.owed_us == SECOND_US // 10
    share.settled(rest)
    assert not list(share.owing())


def test_what_would_have_returned_by_now_is_not_owed(clock: Clock) -> None:
    share = begun(2, clock)
    clock.now_us += SECOND_US
    drain(share)
    clock.now_us += SECOND_US - 1
    assert list(share.owing())
    clock.now_us += 1
    assert not list(share.owing())


def test_a_debt_is_measured_by_the_limit_that_holds_now(clock: Clock) -> None:
    share = begun(1, clock)
    clock.now_us += 60 * SECOND_US
    assert drain(share, charge(replace(TEN, burst=1))) == 1
    clock.now_us += 60 * SECOND_US
    raised = charge(replace(TEN, burst=50))
    assert drain(share, raised) == 50
    (debt,) = share.owing()
    assert (debt.owed_us, debt.capacity_us) == (51 * raised.price_us, raised.capacity_us)
    clock.now_us += SECOND_US  # less than it takes to return
    assert list(share.owing())


def test_with_redis_back_the_share_still_limits_but_owes_nothing(clock: Clock) -> None:
    share = begun(1, clock)
    clock.now_us += SECOND_US
    closed = charge(replace(TEN, name="closed", burst=5, on_outage="closed"))
    admitted = 0
    while share.take([charge(), closed], redis_back=True).allowed:
        admitted += 1
    assert admitted == 10
    assert not list(share.owing())


def test_a_lost_batch_denies_what_a_share_would_decide_and_asks_to_come_back() -> None:
    free, closed = replace(TEN, on_outage="open"), replace(TEN, on_outage="closed")
    denied = fallback.unanswered([charge()])
    assert (denied.allowed, denied.degraded, denied.retry_after_s) == (False, True, 1)
    admitted = fallback.unanswered([charge(free)])
    assert (admitted.allowed, admitted.states[0].remaining) == (True, 10)
    assert fallback.unanswered([charge(replace(TEN, shadow=True))]).allowed
    with pytest.raises(StoreUnavailable):
        fallback.unanswered([charge(closed)])


def test_a_burst_smaller_than_the_fleet_is_held_by_as_many_as_it_has_tokens(clock: Clock) -> None:
    policy = replace(TEN, burst=2)
    fleet = [begun(5, clock, number=number) for number in range(5)]
    for value in ("a", "b", "c", "d"):
        clock.now_us += 10 * SECOND_US
        assert [drain(each, charge(policy, value)) for each in fleet].count(1) == 2
    single = replace(TEN, burst=10, cost=10)
    decisions = [each.take([charge(single, "e", 10)]) for each in fleet]
    assert [decision.allowed for decision in decisions].count(True) == 1
    # Whoever has no share of it says so, and when to come again.
    for denied in (decision for decision in decisions if not decision.allowed):
        assert denied.violated[0].remaining == 0


@given(
    workers=st.integers(1, 5),
    burst=st.integers(1, 20),
    cost=st.integers(1, 20),
    schedule=st.lists(st.tuples(st.integers(0, 400_000), st.integers(0, 4)), max_size=80),
)
def test_no_window_of_the_outage_holds_more_than_burst_plus_rate(
    workers: int, burst: int, cost: int, schedule: list[tuple[int, int]]
) -> None:
    clock = Clock()
    policy = replace(TEN, burst=burst, cost=min(cost, burst))
    fleet = [begun(workers, clock, number=number) for number in range(workers)]
    begun_us = clock.now_us
    admitted: list[tuple[int, int]] = []
    for gap_us, worker in schedule:
        clock.now_us += gap_us
        if fleet[worker % workers].take([charge(policy, cost=policy.cost)]).allowed:
            admitted.append((clock.now_us, policy.cost))
    assert sum(cost for _, cost in admitted) <= Fraction(
        policy.tokens * (clock.now_us - begun_us), SECOND_US
    )
    for first in range(len(admitted)):
        total = 0
        for at_us, taken in admitted[first:]:
            total += taken
            window_us = at_us - admitted[first][0]
            assert total <= burst + Fraction(policy.tokens * window_us, SECOND_US)
