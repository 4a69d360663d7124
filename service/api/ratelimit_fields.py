"""A Decision as HTTP fields: ``RateLimit-Policy``, ``RateLimit``, ``Retry-After``.

The IETF draft's form: lists of structured-field strings with integer parameters. For a token
bucket the quota is the burst, and the window the time an empty bucket takes to fill.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from service.admission.models import Decision, LimitState


def fields(decision: Decision) -> dict[str, str]:
    """The two RateLimit fields, for every answer the decision was made for."""
    states = [state for state in decision.states if not state.policy.shadow]
    if not states:
        return {}
    return {
        "RateLimit-Policy": ", ".join(_policy(state) for state in states),
        "RateLimit": ", ".join(_state(state) for state in states),
    }


def denial_fields(decision: Decision) -> dict[str, str]:
    """The fields of a refusal: a client that sleeps ``Retry-After`` seconds gets in."""
    return {**fields(decision), "Retry-After": str(decision.retry_after_s)}


def _policy(state: LimitState) -> str:
    policy = state.policy
    return f'"{policy.name}";q={policy.burst};w={policy.window_s}'


def _state(state: LimitState) -> str:
    return f'"{state.policy.name}";r={state.remaining};t={_ceil_seconds(_wait_ms(state))}'


def _wait_ms(state: LimitState) -> int:
    """Until the asked cost fits, if it does not; until one token, if none is left; else until full.

    ``r`` over ``t`` then never promises more than the true rate plus the burst.
    """
    if state.wait_ms > 0:
        return state.wait_ms
    if state.remaining > 0:
        return state.refill_ms
    others_ms = (state.policy.burst - 1) * state.policy.emission_interval_us // 1000
    return max(0, state.refill_ms - others_ms)


def _ceil_seconds(ms: int) -> int:
    return -(-ms // 1000)
