"""How long one call may take, how often it may try, and what it waits in between.

``backoff`` computes the waits (exponential, full jitter); the loop and the clock are ours, because
its ``max_time`` is measured before each attempt and so is no deadline. Nothing else in the way to
the payment service repeats anything.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import deque
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import backoff
import structlog

from service.deadline import at_most
from service.errors import DeadlineExceeded
from service.payments.failures import AttemptFailed, Kind

if TYPE_CHECKING:
    from service.settings import PaymentSettings

log = structlog.get_logger()

#: First wait at most this long, doubling from there ...
FIRST_WAIT_S = 0.5
#: ... up to this.
LONGEST_WAIT_S = 2.0
#: An attempt with less time than this is not begun: it would end unanswered, and unknown.
ATTEMPT_FLOOR_S = 1.0
#: Left of the request's own time for recording the outcome and answering.
ANSWER_RESERVE_S = 1.0
#: Waited past a Retry-After: the breaker's pause is set by the same answer, a moment later.
RETRY_AFTER_MARGIN_S = 0.3
#: Retries in the last ten seconds may be a tenth of the calls in them, and three in any case.
BUDGET_SHARE = 0.1
BUDGET_FLOOR = 3
BUDGET_WINDOW_S = 10.0


class RetryBudget:
    """Keeps a worker's retries a small part of its calls, so that they cannot become the load."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._calls: deque[float] = deque()
        self._retries: deque[float] = deque()

    def __repr__(self) -> str:
        return f"<RetryBudget {len(self._retries)} retries, {len(self._calls)} calls>"

    def count_call(self) -> None:
        self._forget_old()
        self._calls.append(self._clock())

    def take(self) -> bool:
        """Spend one retry; False when there is none to spend."""
        self._forget_old()
        if len(self._retries) >= max(BUDGET_FLOOR, BUDGET_SHARE * len(self._calls)):
            return False
        self._retries.append(self._clock())
        return True

    def _forget_old(self) -> None:
        horizon_s = self._clock() - BUDGET_WINDOW_S
        for times in (self._calls, self._retries):
            while times and times[0] <= horizon_s:
                times.popleft()


@dataclass(frozen=True, slots=True)
class AttemptLimit:
    """Seconds for one attempt; ``shortened`` when our own deadline left less than usual."""

    seconds: float
    shortened: bool


class Call:
    """One call: when it ends, how many attempts it has left, how long to wait before the next.

    ``about``: the job or payment it is for, if it is for one; all attempts share it.
    """

    def __init__(
        self, settings: PaymentSettings, budget: RetryBudget, ends_at_s: float, about: str = ""
    ) -> None:
        self.about = about or secrets.token_hex(8)
        self._settings = settings
        self._budget = budget
        self._ends_at_s = ends_at_s
        self._retries_left = settings.attempts - 1
        self._waits: Generator[float, None, None] = backoff.expo(
            factor=FIRST_WAIT_S, max_value=LONGEST_WAIT_S
        )
        next(self._waits)  # backoff's generators yield once before their first value
        budget.count_call()

    @classmethod
    def begin(cls, settings: PaymentSettings, budget: RetryBudget, about: str = "") -> Call:
        """Raises DeadlineExceeded where the request has no time left for even one attempt."""
        reserved_s = at_most(
            settings.call_timeout + ANSWER_RESERVE_S,
            floor_s=ANSWER_RESERVE_S + _floor_s(settings),
        )
        return cls(settings, budget, time.monotonic() + reserved_s - ANSWER_RESERVE_S, about)

    def branch(self) -> Call:
        """Another call within the same time: reading back what this one may have done."""
        return Call(self._settings, self._budget, self._ends_at_s, self.about)

    def attempt_limit(self) -> AttemptLimit:
        """The next attempt's time; raises DeadlineExceeded where too little is left."""
        left_s = self._ends_at_s - time.monotonic()
        if left_s < _floor_s(self._settings):
            raise DeadlineExceeded
        usual_s = self._settings.attempt_timeout
        return AttemptLimit(min(usual_s, left_s), shortened=left_s < usual_s)

    async def again(self, failure: AttemptFailed) -> bool:
        """Wait as long as the failure asks for; False, at once, when there is no other attempt."""
        if self._retries_left <= 0:
            return False
        wait_s = self._wait_s(failure)
        if not self._fits(wait_s):
            return False
        if not self._budget.take():
            log.warning("payment_retry_budget_spent", kind=failure.kind)
            return False
        self._retries_left -= 1
        await asyncio.sleep(wait_s)
        return True

    async def pause(self, seconds: float) -> bool:
        """Wait within the call's time; False, at once, when that leaves none for an attempt."""
        if not self._fits(seconds):
            return False
        await asyncio.sleep(seconds)
        return True

    def _fits(self, wait_s: float) -> bool:
        left_s = self._ends_at_s - time.monotonic()
        return left_s - wait_s >= _floor_s(self._settings)

    def _wait_s(self, failure: AttemptFailed) -> float:
        jittered_s = backoff.full_jitter(next(self._waits))
        if failure.kind is Kind.STALE:
            return 0.0  # nothing is wrong with the service: a fresh connection will do
        if failure.retry_after_s is None:
            return jittered_s
        return failure.retry_after_s + RETRY_AFTER_MARGIN_S + jittered_s


def _floor_s(settings: PaymentSettings) -> float:
    return min(ATTEMPT_FLOOR_S, settings.attempt_timeout)
