"""Counts and times calls to the payment service: whole ones, with all retries, and single tries."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import structlog

from service import tracing
from service.errors import (
    CircuitOpen,
    PaymentBusy,
    PaymentOutcomeUnknown,
    PaymentRejected,
    TollgateError,
)
from service.metrics import Metrics
from service.payments.failures import AttemptFailed
from service.payments.models import Payment, Unreadable

#: The first that fits; what fits none is "unavailable".
_OUTCOMES: tuple[tuple[type[TollgateError], str], ...] = (
    (CircuitOpen, "open"),
    (PaymentBusy, "busy"),
    (PaymentRejected, "rejected"),
    (PaymentOutcomeUnknown, "unknown"),
)


#: So many payments that could not be read are remembered, so that each is told of once.
MOST_TOLD = 1000
#: Asked every few seconds for no job in particular: only of use when hunting a fault.
_ROUTINE = frozenset({"changes", "check"})

log = structlog.get_logger()


class Meter:
    def __init__(self, metrics: Metrics | None) -> None:
        self._metrics = metrics
        self._told: dict[tuple[str | None, str], None] = {}

    def seen(self, rows: Iterable[Payment | Unreadable]) -> None:
        """Tell of each row that cannot be read, once: it comes with every look at its page."""
        for row in rows:
            if isinstance(row, Payment) or (row.id, row.fault) in self._told:
                continue
            self._told[row.id, row.fault] = None
            if len(self._told) > MOST_TOLD:
                del self._told[next(iter(self._told))]
            log.error("payment_unreadable", payment=row.id, fault=row.fault)
            if self._metrics is not None:
                self._metrics.payments_unreadable.inc()

    @contextmanager
    def attempt(self, operation: str) -> Iterator[None]:
        """One exchange of a call."""
        told = {"tollgate.operation": operation}
        with tracing.span("payment attempt", tracing.Kind.CLIENT, told) as span:
            try:
                with self._counted(operation):
                    yield
            except AttemptFailed as failure:
                span.tell({"http.response.status_code": failure.status})
                span.fail(failure.kind)
                raise

    @contextmanager
    def _counted(self, operation: str) -> Iterator[None]:
        if self._metrics is None:
            yield
            return
        with self._metrics.outbound.payment_attempt(operation) as outcome:
            try:
                yield
                outcome.name = "ok"
            except AttemptFailed as failure:
                outcome.name = failure.kind
                raise

    @contextmanager
    def call(self, operation: str) -> Iterator[None]:
        began_s = time.monotonic()
        outcome = "unknown"  # stays so for a call that is cancelled
        told = {"tollgate.operation": operation}
        try:
            with tracing.span("payment", attributes=told):
                yield
            outcome = "ok"
        except TollgateError as error:
            outcome = next((name for kind, name in _OUTCOMES if isinstance(error, kind)), "")
            outcome = outcome or "unavailable"
            raise
        finally:
            seconds = time.monotonic() - began_s
            tell = log.debug if operation in _ROUTINE else log.info
            tell("payment_call", operation=operation, outcome=outcome, duration_ms=_ms(seconds))
            if self._metrics is not None:
                self._metrics.payment_calls.labels(operation, outcome).inc()
                self._metrics.payment_call_seconds.labels(operation).observe(seconds)


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 1)
