from __future__ import annotations

from contextlib import suppress

import pytest

from service.errors import DeadlineExceeded, StoreUnavailable
from service.store.guard import FAILURES_BEFORE_REST, REST_S, Guard


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def guard(clock: Clock) -> Guard:
    return Guard(clock=clock)


def fail(guard: Guard, times: int = 1) -> None:
    for _ in range(times):
        with suppress(StoreUnavailable), guard.attempt():
            raise StoreUnavailable


def test_rests_after_failures_in_a_row(guard: Guard) -> None:
    fail(guard, FAILURES_BEFORE_REST - 1)
    assert repr(guard) == "<Guard watching failures=2>"
    fail(guard)
    assert guard.resting
    went_through = False
    with pytest.raises(StoreUnavailable), guard.attempt():
        went_through = True
    assert not went_through
    assert repr(guard) == "<Guard resting failures=3>"


def test_a_success_between_failures_starts_the_count_again(guard: Guard) -> None:
    for _ in range(3):
        fail(guard, FAILURES_BEFORE_REST - 1)
        with guard.attempt():
            pass
    assert not guard.resting


def test_one_call_looks_after_the_rest_while_others_are_still_spared(
    guard: Guard, clock: Clock
) -> None:
    fail(guard, FAILURES_BEFORE_REST)
    clock.now_s += 2 * REST_S
    with guard.attempt():
        assert guard.resting
    assert repr(guard) == "<Guard watching failures=0>"


def test_a_look_that_fails_begins_another_rest(guard: Guard, clock: Clock) -> None:
    fail(guard, FAILURES_BEFORE_REST)
    clock.now_s += 2 * REST_S
    fail(guard)
    assert guard.resting


def test_a_look_that_was_given_up_leaves_the_next_caller_to_look(
    guard: Guard, clock: Clock
) -> None:
    fail(guard, FAILURES_BEFORE_REST)
    clock.now_s += 2 * REST_S
    with suppress(DeadlineExceeded), guard.attempt():
        raise DeadlineExceeded
    assert not guard.resting


def test_a_callers_own_deadline_says_nothing_about_the_store(guard: Guard) -> None:
    for _ in range(10):
        with suppress(DeadlineExceeded), guard.attempt():
            raise DeadlineExceeded
    assert not guard.resting


def test_a_health_check_asks_during_the_rest_and_ends_it(guard: Guard) -> None:
    fail(guard, FAILURES_BEFORE_REST)
    with guard.attempt(always=True):
        pass
    assert not guard.resting


def test_an_answer_to_somebody_else_ends_the_rest(guard: Guard) -> None:
    fail(guard, FAILURES_BEFORE_REST)
    guard.clear()
    with guard.attempt():
        pass
    assert not guard.resting
