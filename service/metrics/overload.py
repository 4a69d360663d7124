"""What a worker has in hand, how long what is ready waits, and what it turns away."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from service.metrics.plain import HandOver, Spread, Tally

#: A turn of an idle loop to one nobody wants to wait for.
DELAY_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1)


class Status(Protocol):
    """As the overload protection has it, which stands above this package."""

    @property
    def limit(self) -> int | None: ...
    @property
    def database_limit(self) -> int | None: ...
    @property
    def in_flight(self) -> int: ...


class OverloadCounts:
    """Its observer; every method takes well under a microsecond."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._hand_over = HandOver.of(registry)
        self._shed = Tally(
            Counter(
                "tollgate_overload_shed",
                "Requests turned away with 503 because a worker had more to do than it can."
                " priority: sale (start_job, the first to be), input, other, status, read (of what"
                " is cached), health. reason: worker (no time), database (no connections), share"
                " (had more than others when there was little of either).",
                ("priority", "reason"),
                registry=registry,
            )
        )
        self._delay = Spread(
            Histogram(
                "tollgate_overload_queue_delay_seconds",
                "How long what is ready waits for its turn in a worker, sampled up to 50 times a"
                " second, in seconds.",
                registry=registry,
                buckets=DELAY_BUCKETS_S,
            )
        )
        self._in_flight = Gauge(
            "tollgate_overload_in_flight",
            "Limited requests that have been let in and not yet answered, all workers together.",
            registry=registry,
            multiprocess_mode="livesum",
        )
        self._limit = Gauge(
            "tollgate_overload_limit",
            "So many requests at once the workers that turn some away let in, all of those"
            " together; 0: none does. of: worker (of all kinds), database (of those that need a"
            " connection).",
            ("of",),
            registry=registry,
            multiprocess_mode="livesum",
        )
        self._hand_over.add(self._shed.hand_over)
        self._hand_over.add(self._delay.hand_over)

    def watch(self, now: Callable[[], Status]) -> None:
        """Show how the worker stands whenever the numbers are collected."""

        def hand_over() -> None:
            status = now()
            self._in_flight.set(status.in_flight)
            self._limit.labels("worker").set(status.limit or 0)
            self._limit.labels("database").set(status.database_limit or 0)

        self._hand_over.add(hand_over)

    def delayed(self, seconds: float) -> None:
        """What was ready waited so long."""
        self._delay.observe(seconds)

    def shed(self, priority: str, reason: str) -> None:
        """One request was turned away."""
        self._shed.grown[priority, reason] += 1
