from __future__ import annotations

import asyncio

import pytest

from service.deadline import CURRENT, Deadline
from service.errors import DeadlineExceeded
from service.payments import retry
from service.payments.failures import AttemptFailed, Kind
from service.payments.retry import Call, RetryBudget
from service.settings import PaymentSettings


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What would have been waited; nothing is."""
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    return waits


def begin(budget: RetryBudget | None = None, **settings: float) -> Call:
    return Call.begin(PaymentSettings(**settings), budget or RetryBudget())  # type: ignore[arg-type]


async def test_attempts_are_as_many_as_set(slept: list[float]) -> None:
    call = begin(attempts=3)
    failure = AttemptFailed(Kind.SERVER_ERROR)
    assert [await call.again(failure) for _ in range(3)] == [True, True, False]


async def test_waits_double_and_stay_below_the_cap(
    slept: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry.backoff, "full_jitter", lambda value: value)
    monkeypatch.setattr(retry, "BUDGET_FLOOR", 10)
    call = begin(attempts=6)
    while await call.again(AttemptFailed(Kind.SERVER_ERROR)):
        pass
    assert slept == [0.5, 1.0, 2.0, 2.0, 2.0]


async def test_waits_are_jittered_over_their_whole_range(
    slept: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry, "BUDGET_FLOOR", 1000)
    for _ in range(300):
        await begin().again(AttemptFailed(Kind.SERVER_ERROR))
    assert min(slept) < 0.1
    assert max(slept) > 0.4
    assert all(0 <= wait <= 0.5 for wait in slept)


async def test_retry_after_is_kept(slept: list[float]) -> None:
    call = begin()
    assert await call.again(AttemptFailed(Kind.THROTTLED, retry_after_s=5.0))
    assert 5.0 < slept[0] <= 6.0


async def test_retry_after_beyond_the_call_ends_it(slept: list[float]) -> None:
    assert not await begin().again(AttemptFailed(Kind.THROTTLED, retry_after_s=24.0))
    assert slept == []


async def test_stale_connection_needs_no_wait(slept: list[float]) -> None:
    assert await begin().again(AttemptFailed(Kind.STALE))
    assert slept == [0.0]


async def test_attempt_gets_its_usual_time_while_there_is_plenty() -> None:
    limit = begin().attempt_limit()
    assert limit.seconds == 7.0
    assert not limit.shortened


async def test_attempt_never_outlives_the_request() -> None:
    token = CURRENT.set(Deadline.after(5.0))
    try:
        limit = begin().attempt_limit()
    finally:
        CURRENT.reset(token)
    # One second is kept for answering.
    assert 3.0 < limit.seconds <= 4.0
    assert limit.shortened


async def test_request_with_too_little_time_begins_nothing() -> None:
    token = CURRENT.set(Deadline.after(1.9))
    try:
        with pytest.raises(DeadlineExceeded):
            begin()
    finally:
        CURRENT.reset(token)


async def test_branch_shares_the_end_and_has_its_own_attempts(slept: list[float]) -> None:
    call = begin(attempts=2)
    failure = AttemptFailed(Kind.SERVER_ERROR)
    assert await call.again(failure)
    assert not await call.again(failure)
    branch = call.branch()
    assert branch._ends_at_s == call._ends_at_s
    assert await branch.again(failure)


def test_budget_allows_three_retries_to_the_idle() -> None:
    budget = RetryBudget(Clock())
    assert [budget.take() for _ in range(4)] == [True, True, True, False]


def test_budget_grows_with_a_tenth_of_the_calls() -> None:
    budget = RetryBudget(Clock())
    for _ in range(100):
        budget.count_call()
    assert sum(budget.take() for _ in range(50)) == 10


def test_budget_forgets_after_its_window() -> None:
    clock = Clock()
    budget = RetryBudget(clock)
    while budget.take():
        pass
    clock.now_s = 9.9
    assert not budget.take()
    clock.now_s = 10.0
    assert budget.take()


async def test_spent_budget_ends_a_call(slept: list[float]) -> None:
    budget = RetryBudget()
    while budget.take():
        pass
    assert not await begin(budget).again(AttemptFailed(Kind.SERVER_ERROR))
    assert slept == []
