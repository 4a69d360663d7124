"""Counts and times whole calls to the payment service, retries and searches included, and tries."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from service.errors import (
    CircuitOpen,
    PaymentBusy,
    PaymentOutcomeUnknown,
    PaymentRejected,
    TollgateError,
)
from service.metrics import Metrics
from service.payments.failures import AttemptFailed

#: The first that fits; what fits none is "unavailable".
_OUTCOMES: tuple[tuple[type[TollgateError], str], ...] = (
    (CircuitOpen, "open"),
    (PaymentBusy, "busy"),
    (PaymentRejected, "rejected"),
    (PaymentOutcomeUnknown, "unknown"),
)


class Meter:
    def __init__(self, metrics: Metrics | None) -> None:
        self._metrics = metrics

    @contextmanager
    def attempt(self, operation: str) -> Iterator[None]:
        """One exchange of a call."""
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
        try:
            yield
            outcome = "ok"
        except TollgateError as error:
            outcome = next((name for kind, name in _OUTCOMES if isinstance(error, kind)), "")
            outcome = outcome or "unavailable"
            raise
        finally:
            if self._metrics is not None:
                self._metrics.payment_calls.labels(operation, outcome).inc()
                seconds = time.monotonic() - began_s
                self._metrics.payment_call_seconds.labels(operation).observe(seconds)
