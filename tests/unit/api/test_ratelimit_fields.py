"""A decision as fields that never promise more than the bucket holds."""

from __future__ import annotations

import pytest

from service.admission.models import Decision, LimitState, Policy
from service.api.ratelimit_fields import (
    MOST_JITTER_MS,
    ceil_seconds,
    denial_fields,
    fields,
    lines,
    retry_after_ms,
)

BURST = Policy("burst", tokens=20, period_s=2, burst=20)
SUSTAINED = Policy("sustained", tokens=1000, period_s=3600, burst=1000)
FLEET = Policy("fleet", tokens=10, period_s=60, burst=10, scope="fleet")
TRIAL = Policy("trial", tokens=1, period_s=60, burst=1, shadow=True)


def state(policy: Policy, *, remaining: int, wait_ms: int = 0, refill_ms: int = 0) -> LimitState:
    return LimitState(policy, remaining=remaining, wait_ms=wait_ms, refill_ms=refill_ms)


def test_every_policy_is_named_with_quota_and_window() -> None:
    decision = Decision(True, (state(BURST, remaining=7), state(SUSTAINED, remaining=900)))
    assert fields(decision)["RateLimit-Policy"] == '"burst";q=20;w=2, "sustained";q=1000;w=3600'


def test_with_tokens_left_t_is_the_time_until_full() -> None:
    decision = Decision(True, (state(BURST, remaining=7, refill_ms=1300),))
    assert fields(decision)["RateLimit"] == '"burst";r=7;t=2'


def test_with_none_left_t_is_the_time_until_one() -> None:
    # 20 of 20 used at once: full again in 2000 ms, one token after 100 ms.
    decision = Decision(True, (state(BURST, remaining=0, refill_ms=2000),))
    assert fields(decision)["RateLimit"] == '"burst";r=0;t=1'
    slow = Policy("slow", tokens=1, period_s=60, burst=2)
    decision = Decision(True, (state(slow, remaining=0, refill_ms=100_000),))
    assert fields(decision)["RateLimit"] == '"slow";r=0;t=40'


def test_where_a_request_costs_several_tokens_it_is_requests_that_are_told() -> None:
    dear = Policy("dear", tokens=10, period_s=60, burst=12, cost=5)
    policy = fields(Decision(True, (state(dear, remaining=7, refill_ms=30_000),)))
    assert policy == {"RateLimit-Policy": '"dear";q=2;w=72', "RateLimit": '"dear";r=1;t=30'}
    # 10 of 12 used: full again in 60 s; 3 tokens more, for one request, after 18 s.
    spent = Decision(True, (state(dear, remaining=2, refill_ms=60_000),))
    assert fields(spent)["RateLimit"] == '"dear";r=0;t=18'
    denied = Decision(False, (state(dear, remaining=2, wait_ms=18_000, refill_ms=60_000),))
    assert fields(denied)["RateLimit"] == '"dear";r=0;t=18'


def test_a_denial_says_when_to_come_back_by_its_worst_policy() -> None:
    decision = Decision(
        False,
        (
            state(BURST, remaining=7, refill_ms=1300),
            state(SUSTAINED, remaining=0, wait_ms=2100, refill_ms=3_600_000),
        ),
    )
    found = denial_fields(decision, ceil_seconds(retry_after_ms(decision)))
    assert found["RateLimit"] == '"burst";r=7;t=2, "sustained";r=0;t=3'
    assert found["Retry-After"] == "3"


def test_a_clients_own_limit_is_waited_for_to_the_millisecond() -> None:
    decision = Decision(False, (state(BURST, remaining=0, wait_ms=100),))
    assert {retry_after_ms(decision) for _ in range(50)} == {100}


@pytest.mark.parametrize(("wait_ms", "most"), [(5000, 500), (3_600_000, MOST_JITTER_MS)])
def test_waiters_for_a_limit_they_share_come_back_spread_and_never_early(
    wait_ms: int, most: int
) -> None:
    decision = Decision(False, (state(FLEET, remaining=0, wait_ms=wait_ms),))
    waits = {retry_after_ms(decision) - wait_ms for _ in range(500)}
    assert min(waits) >= 0
    assert most / 2 < max(waits) <= most


def test_a_shared_limit_that_had_room_spreads_nothing() -> None:
    decision = Decision(False, (state(FLEET, remaining=9), state(BURST, remaining=0, wait_ms=5000)))
    assert {retry_after_ms(decision) for _ in range(50)} == {5000}


@pytest.mark.parametrize(
    "states",
    [
        (),
        (BURST,),
        (TRIAL,),
        (BURST, SUSTAINED),
        (TRIAL, BURST),
    ],
)
def test_lines_of_a_head_say_the_same(states: tuple[Policy, ...]) -> None:
    decision = Decision(
        True, tuple(state(policy, remaining=3, refill_ms=1300) for policy in states)
    )
    written = "".join(f"{name}: {value}\r\n" for name, value in fields(decision).items())
    assert lines(decision) == written


def test_shadow_policies_are_not_shown() -> None:
    decision = Decision(True, (state(TRIAL, remaining=0, wait_ms=5000),))
    assert fields(decision) == {}
