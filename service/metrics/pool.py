"""The database as one worker sees it: its connections, who waits for them, what statements take.

``DatabaseCounts`` is the database's observer. Plain numbers on the way of a request, handed over
when collected. Names of statements come from queries.sql, never from a client.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from service.metrics.plain import HandOver, Spread, Tally

#: From a look-up by key to the longest a request's statement may take, and the job loops' limit.
STATEMENT_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60)
WAIT_BUCKETS_S = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2)


class PoolNumbers(Protocol):
    """As the database has them, which stands beside this package."""

    @property
    def size(self) -> int: ...
    @property
    def free(self) -> int: ...
    @property
    def used_by(self) -> Mapping[str, int]: ...
    @property
    def waiting_by(self) -> Mapping[str, int]: ...


class DatabaseCounts:
    """Every method is synchronous and takes about a microsecond."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._hand_over = HandOver.of(registry)
        self._size = self._gauge(
            "pool_connections",
            "Open PostgreSQL connections, all workers of the replica together.",
        )
        self._free = self._gauge(
            "pool_free_connections",
            "PostgreSQL connections nobody uses, all workers of the replica together.",
        )
        self._used = self._gauge(
            "pool_used_connections",
            "PostgreSQL connections in use, all workers of the replica together. lane: requests"
            " (status, start_job, provide_input), reads (flows, lists), loops (jobs).",
            "lane",
        )
        self._waiting = self._gauge(
            "pool_waiting_requests",
            "Callers that wait for a PostgreSQL connection, all workers together, by lane.",
            "lane",
        )
        self._waits = {
            lane: self._spread(child)
            for lane, child in self._children(
                "pool_wait_seconds",
                "Time callers waited for a PostgreSQL connection until they had it, in seconds;"
                " who found one free is not counted.",
                WAIT_BUCKETS_S,
                "lane",
                ("requests", "reads", "loops"),
            )
        }
        self._refused = self._tally(
            "pool_refused",
            "Callers who got no PostgreSQL connection. reason: busy (waited in vain), full (too"
            " many wait already), away (no server).",
            "lane",
            "reason",
        )
        self._opened = self._tally(
            "pool_opened", "PostgreSQL connections opened, replacements included."
        )
        self._lost = self._tally(
            "pool_lost",
            "PostgreSQL connections closed before the end of the worker. cause: broken (not by"
            " us), given-up (a statement in it did not end, or its caller did not wait), suspect"
            " (dropped because others had failed).",
            "cause",
        )
        self._statements = self._tally(
            "statements",
            "Statements run, by name and outcome: ok, timeout, unavailable, read-only, busy,"
            " failed, cancelled.",
            "statement",
            "outcome",
        )
        self._seconds = {
            kind: self._spread(child)
            for kind, child in self._children(
                "statement_seconds",
                "Time statements took on their connection, by class: quick, write, read, batch,"
                " long; in seconds.",
                STATEMENT_BUCKETS_S,
                "class",
                ("quick", "write", "read", "batch", "long"),
            )
        }
        self._repeated = self._tally(
            "statements_repeated",
            "Reads, and first words of transactions, whose connection broke and which were sent"
            " once more.",
        )

    def watch(self, status: Callable[[], PoolNumbers]) -> None:
        """Show the pool's numbers of that moment whenever they are collected."""
        self._hand_over.add(lambda: self.show(status()))

    def show(self, now: PoolNumbers) -> None:
        """Show these numbers of the pool."""
        self._size.set(now.size)
        self._free.set(now.free)
        for lane, number in now.used_by.items():
            self._used.labels(lane).set(number)
        for lane, number in now.waiting_by.items():
            self._waiting.labels(lane).set(number)

    def waited(self, lane: str, seconds: float) -> None:
        """Somebody was lent a connection after so long in the queue."""
        self._waits[lane].observe(seconds)

    def refused(self, lane: str, reason: str) -> None:
        """Somebody got no connection."""
        self._refused.grown[str(lane), reason] += 1

    def opened(self) -> None:
        """A connection was opened."""
        self._opened.grown[()] += 1

    def lost(self, cause: str) -> None:
        """A connection is no more."""
        self._lost.grown[cause,] += 1

    def ran(self, name: str, kind: str, seconds: float, outcome: str) -> None:
        """A statement ended."""
        self._statements.grown[name, outcome] += 1
        self._seconds[kind].observe(seconds)

    def repeated(self) -> None:
        """A statement whose connection broke is sent once more."""
        self._repeated.grown[()] += 1

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(
            f"tollgate_database_{name}",
            text,
            labels,
            registry=self._registry,
            multiprocess_mode="livesum",
        )

    def _tally(self, name: str, text: str, *labels: str) -> Tally:
        tally = Tally(Counter(f"tollgate_database_{name}", text, labels, registry=self._registry))
        self._hand_over.add(tally.hand_over)
        return tally

    def _children(
        self,
        name: str,
        text: str,
        buckets: tuple[float, ...],
        label: str,
        values: tuple[str, ...],
    ) -> list[tuple[str, Histogram]]:
        histogram = Histogram(
            f"tollgate_database_{name}", text, (label,), registry=self._registry, buckets=buckets
        )
        return [(value, histogram.labels(value)) for value in values]

    def _spread(self, child: Histogram) -> Spread:
        spread = Spread(child)
        self._hand_over.add(spread.hand_over)
        return spread
