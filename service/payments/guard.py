"""The way of every exchange: deadline > retry > bulkhead > breaker > attempt time-out.

The bulkhead stands before the breaker, so that a full worker never takes the fleet's one probe. A
permit is returned whatever happens, also when the request that holds it is cancelled: its report
runs in a task of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import structlog

from service.breaker.models import Outcome, Permit
from service.payments.bulkhead import Bulkhead
from service.payments.failures import PASSING, AttemptFailed, Kind
from service.payments.retry import AttemptLimit, Call, RetryBudget

if TYPE_CHECKING:
    from service.settings import PaymentSettings

log = structlog.get_logger()

T = TypeVar("T")
Exchange = Callable[[float], Awaitable[T]]

#: Above the store's own time-out, so that the breaker gets to note a report Redis did not take.
REPORT_TIMEOUT_S = 1.0
#: A 429 without Retry-After pauses the fleet this long.
DEFAULT_PAUSE_S = 1.0
#: A misread or hostile Retry-After must not stop the fleet for a day.
LONGEST_PAUSE_S = 120.0

_ALIVE = frozenset({Kind.REFUSED, Kind.NOT_FOUND, Kind.CONFLICT})
_NO_VERDICT = frozenset(
    {Kind.ODD_PAYMENT, Kind.THROTTLED, Kind.UNAUTHORISED, Kind.MISROUTED, Kind.STALE}
)


class CircuitBreaker(Protocol):
    """What is needed of ``service.breaker``."""

    async def acquire(self) -> Permit: ...

    async def refusal_s(self) -> float: ...

    async def report(
        self, permit: Permit, outcome: Outcome, *, detail: str = "", request: str = ""
    ) -> None: ...

    async def pause(self, seconds: float) -> None: ...


class Guard:
    def __init__(
        self,
        breaker: CircuitBreaker,
        settings: PaymentSettings,
        *,
        metered: Callable[[str], AbstractContextManager[None]] = lambda _name: nullcontext(),
    ) -> None:
        self._breaker = breaker
        self._settings = settings
        self._metered = metered
        self._budget = RetryBudget()
        self._tasks: set[asyncio.Task[Any]] = set()
        self.bulkhead = Bulkhead(settings.bulkhead)

    def __repr__(self) -> str:
        return f"<Guard {self.bulkhead!r} {self._budget!r}>"

    def begin(self, about: str = "") -> Call:
        """A call for the job or payment named, or for none.

        Raises DeadlineExceeded where the request has no time left for an attempt.
        """
        return Call.begin(self._settings, self._budget, about)

    async def refusal_s(self) -> float:
        """How much longer every attempt is certainly refused; 0: not for certain."""
        return await self._breaker.refusal_s()

    async def attempt(self, call: Call, name: str, exchange: Exchange[T]) -> T:
        """One exchange, reported to the breaker.

        Raises AttemptFailed, PaymentBusy, CircuitOpen or DeadlineExceeded; the last three only
        before anything is sent.
        """
        limit = call.attempt_limit()
        with self.bulkhead.slot():
            permit = await self._acquire()
            try:
                with self._metered(name):
                    answer = await exchange(limit.seconds)
            except AttemptFailed as failure:
                log.warning(
                    "payment_attempt_failed",
                    operation=name,
                    kind=failure.kind,
                    status=failure.status,
                    detail=failure.detail,
                )
                report = self._report_failure(permit, failure, limit, call.about)
                await asyncio.shield(self._spawn(report))
                raise
            except BaseException:
                self._spawn(self._report(permit, Outcome.NEUTRAL, "cancelled"))
                raise
            self._spawn(self._report(permit, Outcome.OK))
            return answer

    async def repeat(self, call: Call, name: str, exchange: Exchange[T]) -> T:
        """An exchange that may be sent any number of times (a read), tried while that is allowed.

        Raises as ``attempt`` does, with the last AttemptFailed.
        """
        while True:
            try:
                return await self.attempt(call, name, exchange)
            except AttemptFailed as failure:
                if failure.kind not in PASSING or not await call.again(failure):
                    raise

    async def close(self) -> None:
        """Waits for the reports still on their way."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def _acquire(self) -> Permit:
        acquiring = self._spawn(self._breaker.acquire())
        try:
            return await asyncio.shield(acquiring)
        except asyncio.CancelledError:
            # It may still be granted, and a probe that nobody makes costs the fleet a lease.
            acquiring.add_done_callback(self._give_back)
            raise

    def _give_back(self, acquired: asyncio.Task[Permit]) -> None:
        if not acquired.cancelled() and acquired.exception() is None:
            self._spawn(self._report(acquired.result(), Outcome.NEUTRAL, "cancelled"))

    async def _report_failure(
        self, permit: Permit, failure: AttemptFailed, limit: AttemptLimit, about: str
    ) -> None:
        await self._report(permit, _verdict(failure, limit), failure.kind.value, about)
        if failure.kind is Kind.THROTTLED:
            wanted_s = failure.retry_after_s
            seconds = DEFAULT_PAUSE_S if wanted_s is None else min(wanted_s, LONGEST_PAUSE_S)
            await self._bounded(self._breaker.pause(seconds))

    async def _report(
        self, permit: Permit, outcome: Outcome, detail: str = "", about: str = ""
    ) -> None:
        report = self._breaker.report(permit, outcome, detail=detail, request=about)
        await self._bounded(report)

    async def _bounded(self, telling: Awaitable[None]) -> None:
        try:
            async with asyncio.timeout(REPORT_TIMEOUT_S):
                await telling
        except TimeoutError:
            log.warning("breaker_report_timed_out")

    def _spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _verdict(failure: AttemptFailed, limit: AttemptLimit) -> Outcome:
    """What the failure says about the payment service's health."""
    if failure.kind in _ALIVE:
        return Outcome.OK
    if failure.kind in _NO_VERDICT:
        return Outcome.NEUTRAL
    if failure.timed_out and limit.shortened:
        return Outcome.NEUTRAL  # our own deadline ran out, not its time
    return Outcome.FAIL
