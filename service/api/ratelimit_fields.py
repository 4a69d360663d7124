"""A Decision as HTTP fields: ``RateLimit-Policy``, ``RateLimit``, ``Retry-After``.

The IETF draft's form: lists of structured-field strings with integer parameters. For a token
bucket the quota is the burst, and the window the time an empty bucket takes to fill. Both quota and
rest are told in requests, the draft's own unit, whatever one of them costs.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from service.admission.models import Decision, LimitState, Policy

#: Waiters for a bucket they share come back spread over this much more than the wait, so that
#: they do not all come at once: a part of it, at most so much. Never earlier.
JITTER = 0.1
MOST_JITTER_MS = 2000

#: Policies whose text is kept ready; each version of the rules brings its own.
MOST_QUOTAS = 1024

_quotas: dict[int, tuple[Policy, str]] = {}
_random = random.Random()  # noqa: S311 - spread, not secrets


def fields(decision: Decision) -> dict[str, str]:
    """The two RateLimit fields, for every answer the decision was made for."""
    states = [state for state in decision.states if not state.policy.shadow]
    if not states:
        return {}
    return {"RateLimit-Policy": quotas(states), "RateLimit": rests(states)}


def lines(decision: Decision) -> str:
    """The same as lines of a head."""
    states = decision.states
    if len(states) != 1 or states[0].policy.shadow:
        return "".join(f"{name}: {value}\r\n" for name, value in fields(decision).items())
    return f"RateLimit-Policy: {_quota(states[0].policy)}\r\nRateLimit: {_rest(states[0])}\r\n"


def denial_fields(decision: Decision, retry_after_s: int) -> dict[str, str]:
    """The fields of a refusal: a client that sleeps ``Retry-After`` seconds gets in."""
    return {**fields(decision), "Retry-After": str(retry_after_s)}


def retry_after_ms(decision: Decision) -> int:
    """How long a refused client waits, at least 1 ms: until every violated limit has room.

    Where one of them is the whole fleet's, a little longer, each client by another bit.
    """
    wait_ms, shared = 1, False
    for policy, _, of_this_ms, _ in decision.states:
        if of_this_ms > 0 and not policy.shadow:
            wait_ms = max(wait_ms, of_this_ms)
            shared = shared or policy.scope == "fleet"
    if shared:
        wait_ms += int(_random.random() * min(wait_ms * JITTER, MOST_JITTER_MS))
    return wait_ms


def ceil_seconds(ms: int) -> int:
    return -(-ms // 1000)


def quotas(states: Sequence[LimitState]) -> str:
    """The value of ``RateLimit-Policy``; shadow policies are none of a client's business."""
    return ", ".join([_quota(state.policy) for state in states if not state.policy.shadow])


def rests(states: Sequence[LimitState]) -> str:
    """The value of ``RateLimit``."""
    if len(states) == 1:
        return "" if states[0].policy.shadow else _rest(states[0])
    return ", ".join([_rest(state) for state in states if not state.policy.shadow])


def _quota(policy: Policy) -> str:
    known = _quotas.get(id(policy))
    if known is not None:
        return known[1]
    if len(_quotas) >= MOST_QUOTAS:
        _quotas.clear()
    text = f'"{policy.name}";q={policy.requests};w={policy.window_s}'
    _quotas[id(policy)] = (policy, text)  # held, so no other can get its id meanwhile
    return text


def _rest(state: LimitState) -> str:
    policy, tokens, wait_ms, refill_ms = state
    remaining = tokens // policy.cost
    if wait_ms <= 0:
        # Until one request, if none is left; else until full: ``r`` over ``t`` then never promises
        # more than the true rate plus the burst.
        wait_ms = refill_ms
        if remaining <= 0:
            others_ms = (policy.burst - policy.cost) * policy.emission_interval_us // 1000
            wait_ms = max(0, refill_ms - others_ms)
    return f'"{policy.name}";r={remaining};t={-(-wait_ms // 1000)}'
