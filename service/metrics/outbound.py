"""Single exchanges with others over HTTP: attempts at the payment service, requests to runners.

Labels say what was asked and what came of it, never of whom: addresses of runners are unbounded.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Histogram

#: An attempt has 7 s, a request to a runner what its flow allows: usually 10 s.
EXCHANGE_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 7.5, 10, 30)


class Outcome:
    """What an exchange ended with; ``cancelled`` unless somebody says."""

    __slots__ = ("name",)

    def __init__(self) -> None:
        self.name = "cancelled"

    def answered(self, status: int) -> None:
        """A runner's answer with this status."""
        self.name = "ok" if status < 400 else "throttled" if status == 429 else f"{status // 100}xx"


class OutboundCounts:
    def __init__(self, registry: CollectorRegistry) -> None:
        self._attempts = Counter(
            "tollgate_payment_attempts",
            "Exchanges with the payment service, each try by itself. outcome: ok, cancelled, or"
            " what went wrong: not-sent, timed-out, broken, server-error, unauthorised and more.",
            ("operation", "outcome"),
            registry=registry,
        )
        self._attempt_seconds = Histogram(
            "tollgate_payment_attempt_seconds",
            "Time of one exchange with the payment service, in seconds.",
            ("operation",),
            registry=registry,
            buckets=EXCHANGE_BUCKETS_S,
        )
        self._requests = Counter(
            "tollgate_runner_requests",
            "Requests to runners behind HTTP. request: start, poll; outcome: ok, 4xx, 5xx,"
            " throttled (429), timeout, unreachable, cancelled.",
            ("request", "outcome"),
            registry=registry,
        )
        self._request_seconds = Histogram(
            "tollgate_runner_request_seconds",
            "Time of one request to a runner, its answer read, in seconds.",
            ("request",),
            registry=registry,
            buckets=EXCHANGE_BUCKETS_S,
        )

    @contextmanager
    def payment_attempt(self, operation: str) -> Iterator[Outcome]:
        """Count and time what is done inside; ``Outcome.name`` is for who knows it to set."""
        yield from self._exchange(self._attempts, self._attempt_seconds, operation)

    @contextmanager
    def runner_request(self, request: Literal["start", "poll"]) -> Iterator[Outcome]:
        """The same for a request to a runner."""
        yield from self._exchange(self._requests, self._request_seconds, request)

    def _exchange(self, counter: Counter, seconds: Histogram, what: str) -> Iterator[Outcome]:
        outcome, began_s = Outcome(), time.monotonic()
        try:
            yield outcome
        finally:
            counter.labels(what, outcome.name).inc()
            seconds.labels(what).observe(time.monotonic() - began_s)
