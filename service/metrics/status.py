"""How ``/status`` is answered, as plain numbers (``plain``): from where, and who waits."""

from __future__ import annotations

from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge

from service.metrics.plain import HandOver, Tally

Source = Literal["cache", "database", "coalesced"]
WaitEnd = Literal["changed", "unchanged", "full", "leaving", "left"]


class StatusCounts:
    """``waiting`` is kept by who counts the waiting; every method takes well under 1 µs."""

    def __init__(self, registry: CollectorRegistry) -> None:
        hand_over = HandOver.of(registry)
        self.waiting = 0
        self._answers = Tally(
            Counter(
                "tollgate_status_answers",
                "Requests for a job's status, by where it was found. source: cache (a final one,"
                " kept); database (read for it); coalesced (read for another request too).",
                ("source",),
                registry=registry,
            )
        )
        self._queries = Tally(
            Counter(
                "tollgate_status_queries",
                "Queries sent to PostgreSQL for all answers about status together.",
                registry=registry,
            )
        )
        self._waits = Tally(
            Counter(
                "tollgate_status_waits",
                "Requests with wait= that had nothing new to be told. outcome: changed; unchanged"
                " (their time was over); full (too many wait already); leaving (this worker stops);"
                " left (the client did).",
                ("outcome",),
                registry=registry,
            )
        )
        self._waiting = Gauge(
            "tollgate_status_waiting",
            "Clients that wait for a change of a job's status, all workers together.",
            registry=registry,
            multiprocess_mode="livesum",
        )
        for tally in (self._answers, self._queries, self._waits):
            hand_over.add(tally.hand_over)
        hand_over.add(lambda: self._waiting.set(self.waiting))

    def answered(self, source: Source) -> None:
        self._answers.grown[source,] += 1

    def queried(self) -> None:
        self._queries.grown[()] += 1

    def waited(self, outcome: WaitEnd) -> None:
        self._waits.grown[outcome,] += 1
