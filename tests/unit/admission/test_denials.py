"""Denial from knowledge: never what Redis would admit, for no longer than a second, in bounds."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.admission import denials
from service.admission.denials import BELIEVED_US, Denials
from service.admission.models import Charge, Policy, Subject

TEN = Policy("ten", tokens=10, period_s=1, burst=10)
INTERVAL_US = TEN.emission_interval_us
CLIENT = Subject("client", "a")
CHARGE = Charge(TEN, CLIENT)


class Clock:
    now_us = 7_000_000

    def __call__(self) -> int:
        return self.now_us


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def known(clock: Clock) -> Denials:
    return Denials(clock_us=clock)


def hear(known: Denials, clock: Clock, ahead_us: int, charge: Charge = CHARGE) -> None:
    known.hear(charge.key, ahead_us, clock.now_us, clock.now_us)


def test_what_is_not_known_is_asked(known: Denials) -> None:
    assert known.deny([CHARGE]) is None


def test_an_empty_bucket_is_denied_until_a_token_can_exist(known: Denials, clock: Clock) -> None:
    hear(known, clock, TEN.bucket.capacity_us)
    denial = known.deny([CHARGE])
    assert denial is not None
    assert (denial.allowed, denial.local, denial.degraded) == (False, True, False)
    assert [(s.policy, s.remaining, s.wait_ms) for s in denial.violated] == [(TEN, 0, 100)]
    clock.now_us += INTERVAL_US - 1
    assert known.deny([CHARGE]) is not None
    clock.now_us += 1
    assert known.deny([CHARGE]) is None


def test_one_entry_serves_every_cost_and_changed_numbers(known: Denials, clock: Clock) -> None:
    hear(known, clock, 7 * INTERVAL_US)
    assert known.deny([Charge(TEN, CLIENT, 3)]) is None
    assert known.deny([Charge(TEN, CLIENT, 4)]) is not None
    assert known.deny([Charge(replace(TEN, burst=7), CLIENT, 1)]) is not None
    assert known.deny([Charge(replace(TEN, burst=20), CLIENT, 13)]) is None


def test_any_denying_bucket_denies_and_only_known_ones_are_told(
    known: Denials, clock: Clock
) -> None:
    other, unknown = replace(TEN, name="other"), replace(TEN, name="unknown")
    hear(known, clock, TEN.bucket.capacity_us)
    hear(known, clock, INTERVAL_US, Charge(other, CLIENT))
    denial = known.deny([Charge(unknown, CLIENT), Charge(other, CLIENT), CHARGE])
    assert denial is not None
    assert [(state.policy.name, state.remaining) for state in denial.states] == [
        ("other", 9), ("ten", 0),
    ]  # fmt: skip
    assert [state.policy.name for state in denial.violated] == ["ten"]


def test_nothing_is_believed_for_longer_than_a_second(known: Denials, clock: Clock) -> None:
    hourly = Charge(replace(TEN, period_s=36_000), CLIENT)
    hear(known, clock, hourly.policy.bucket.capacity_us, hourly)
    clock.now_us += BELIEVED_US - 1
    assert known.deny([hourly]) is not None
    clock.now_us += 1
    assert known.deny([hourly]) is None
    # Still good enough to be told to a server that has forgotten everything.
    assert known.ahead_us(hourly.key) == hourly.policy.bucket.capacity_us - BELIEVED_US
    assert list(known.not_full()) == [hourly.key]


def test_a_forgotten_bucket_is_asked_again(known: Denials, clock: Clock) -> None:
    hear(known, clock, TEN.bucket.capacity_us)
    known.forget(CHARGE.key)
    known.forget(CHARGE.key)
    assert known.deny([CHARGE]) is None


def test_a_shadow_policy_is_another_bucket_and_never_denies(known: Denials, clock: Clock) -> None:
    hear(known, clock, TEN.bucket.capacity_us)
    assert known.deny([Charge(replace(TEN, shadow=True), CLIENT)]) is None


def test_the_told_wait_covers_the_way_there(known: Denials, clock: Clock) -> None:
    """The server spoke between sending and answer: denied as of the one, told as of the other."""
    sent_us = clock.now_us
    clock.now_us += 2000
    known.hear(CHARGE.key, TEN.bucket.capacity_us, sent_us, clock.now_us)
    denial = known.deny([CHARGE])
    assert denial is not None
    assert denial.states[0].wait_ms == 100


def test_memory_is_bounded_and_the_latest_stay(
    known: Denials, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(denials, "MOST_ENTRIES", 3)
    many = [Charge(TEN, Subject("client", f"minted-{number}")) for number in range(10)]
    for charge in many:
        hear(known, clock, TEN.bucket.capacity_us, CHARGE)
        hear(known, clock, TEN.bucket.capacity_us, charge)
    assert repr(known) == "<Denials buckets=3>"
    assert known.deny([CHARGE]) is not None
    assert known.deny([many[0]]) is None
    assert known.deny([many[-1]]) is not None
    # What is heard of again is as good as new.
    hear(known, clock, TEN.bucket.capacity_us, many[8])
    for charge in many[:2]:
        hear(known, clock, TEN.bucket.capacity_us, charge)
    assert known.deny([many[8]]) is not None


@given(
    ahead=st.integers(0, 15 * INTERVAL_US),
    way_there_us=st.integers(0, 5000),
    way_back_us=st.integers(0, 5000),
    later_us=st.integers(0, 3 * BELIEVED_US),
    cost=st.integers(1, 10),
)
def test_denies_nothing_the_server_would_admit(
    ahead: int, way_there_us: int, way_back_us: int, later_us: int, cost: int
) -> None:
    clock = Clock()
    known = Denials(clock_us=clock)
    sent_us = clock.now_us
    offset_us = 1_700_000_000_000_000  # the server's clock is another
    arrival_us = sent_us + way_there_us + offset_us + ahead
    clock.now_us += way_there_us + way_back_us
    known.hear(CHARGE.key, ahead, sent_us, clock.now_us)
    clock.now_us += later_us
    denial = known.deny([Charge(TEN, CLIENT, cost)])
    server_now_us = clock.now_us + offset_us
    if denial is not None:
        assert not TEN.bucket.take(arrival_us, server_now_us, cost).fits
        told_us = denial.states[0].wait_ms * 1000
        assert TEN.bucket.take(arrival_us, server_now_us + told_us, cost).fits
    elif clock.now_us - sent_us < BELIEVED_US:
        # And what it lets through it lets through at most a way there too early.
        assert TEN.bucket.take(arrival_us, server_now_us + way_there_us, cost).fits
