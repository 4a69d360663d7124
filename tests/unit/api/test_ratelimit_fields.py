"""A decision as fields that never promise more than the bucket holds."""

from __future__ import annotations

from service.admission.models import Decision, LimitState, Policy
from service.api.ratelimit_fields import denial_fields, fields

BURST = Policy("burst", tokens=20, period_s=2, burst=20)
SUSTAINED = Policy("sustained", tokens=1000, period_s=3600, burst=1000)


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


def test_a_denial_says_when_to_come_back_by_its_worst_policy() -> None:
    decision = Decision(
        False,
        (
            state(BURST, remaining=7, refill_ms=1300),
            state(SUSTAINED, remaining=0, wait_ms=2100, refill_ms=3_600_000),
        ),
    )
    assert denial_fields(decision)["RateLimit"] == '"burst";r=7;t=2, "sustained";r=0;t=3'
    assert denial_fields(decision)["Retry-After"] == "3"


def test_shadow_policies_are_not_shown() -> None:
    shadow = Policy("shadow", tokens=1, period_s=60, burst=1, shadow=True)
    decision = Decision(True, (state(shadow, remaining=0, wait_ms=5000),))
    assert fields(decision) == {}
