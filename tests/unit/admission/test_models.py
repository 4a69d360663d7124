from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.admission.models import (
    Charge,
    Decision,
    LimitState,
    Policy,
    Subject,
)
from service.errors import ConfigurationError

MINUTE = Policy("minute", tokens=30, period_s=60, burst=30)


@given(st.integers(1, 10**9), st.sampled_from([1, 60, 3600, 86_400]))
def test_rounding_never_raises_the_rate(tokens: int, period_s: int) -> None:
    interval_us = Policy("p", tokens, period_s, burst=1).emission_interval_us
    assert interval_us >= 1
    assert tokens * interval_us >= period_s * 1_000_000


@pytest.mark.parametrize(
    ("tokens", "period_s", "burst", "window_s"),
    [(30, 60, 30, 60), (100, 1, 20, 1), (10, 60, 1, 6), (7, 60, 1, 9), (1, 60, 5, 300)],
)
def test_window_is_the_time_an_empty_bucket_takes_to_fill(
    tokens: int, period_s: int, burst: int, window_s: int
) -> None:
    assert Policy("p", tokens, period_s, burst).window_s == window_s


def test_a_bucket_that_takes_years_to_fill_is_a_fault_of_the_settings() -> None:
    with pytest.raises(ConfigurationError, match=r"limits\.slow: .* more than a year"):
        Policy("slow", tokens=1, period_s=86_400, burst=10**9)


@pytest.mark.parametrize("cost", [0, -1, 31])
def test_a_cost_that_no_burst_can_pay_is_a_fault_of_the_settings(cost: int) -> None:
    with pytest.raises(ConfigurationError, match=r"limits\.minute: a cost of .* never be paid"):
        Policy("minute", 30, 60, 30, cost=cost)


@pytest.mark.parametrize("cost", [0, -1, 31])
def test_a_cost_that_can_never_be_paid_is_an_error_of_the_program(cost: int) -> None:
    with pytest.raises(ValueError, match="must be 1 to its burst, 30"):
        Charge(MINUTE, Subject("client", "x"), cost)


def test_retry_after_is_the_longest_wait_of_the_violated_limits_rounded_up() -> None:
    trial = Policy("trial", 1, 60, 1, shadow=True)
    decision = Decision(
        allowed=False,
        states=(
            LimitState(MINUTE, remaining=0, wait_ms=2001, refill_ms=60_000),
            LimitState(MINUTE, remaining=5, wait_ms=0, refill_ms=50_000),
            LimitState(trial, remaining=0, wait_ms=59_000, refill_ms=59_000),
        ),
    )
    assert decision.retry_after_s == 3
    assert [state.wait_ms for state in decision.violated] == [2001]
