"""The fleet's jobs as counted now and then by each worker that works on them.

The gauges come into being with the first count: before it a worker knows nothing, and an age or a
rest of time of 0 would wake somebody.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cached_property
from typing import Literal

from prometheus_client import CollectorRegistry, Gauge


class JobCensus:
    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def jobs(self, open_jobs: Mapping[str, tuple[int, float]]) -> None:
        """By state: how many, and the age of the oldest in seconds."""
        for state, (number, oldest_s) in open_jobs.items():
            self._open.labels(state).set(number)
            self._oldest.labels(state).set(oldest_s)

    def results(self, *, tightest_s: float | None, stuck: int, lost: int, paid_late: int) -> None:
        """What is owed: results that are not on the chain yet, and what came too late."""
        self._tightest.set(math.inf if tightest_s is None else tightest_s)
        self._stuck.set(stuck)
        self._lost.set(lost)
        self._paid_late.set(paid_late)

    def backlog(self, waiting: int) -> None:
        """Results not yet submitted."""
        self._backlog.set(waiting)

    @cached_property
    def _open(self) -> Gauge:
        return self._gauge(
            "jobs_open", "Unfinished jobs of the whole fleet, by state.", "livemax", "state"
        )

    @cached_property
    def _oldest(self) -> Gauge:
        return self._gauge(
            "jobs_oldest_seconds",
            "Age of the oldest unfinished job in each state, since it entered it, in seconds.",
            "livemax",
            "state",
        )

    @cached_property
    def _tightest(self) -> Gauge:
        return self._gauge(
            "settlement_tightest_seconds",
            "Time until the first waiting result must be on the chain, in seconds; negative: too"
            " late, infinite: none waits.",
            "livemin",
        )

    @cached_property
    def _stuck(self) -> Gauge:
        return self._gauge(
            "settlement_stuck",
            "Waiting results in an error state that recovery did not lift: they need a person.",
            "livemax",
        )

    @cached_property
    def _lost(self) -> Gauge:
        return self._gauge(
            "settlements_lost", "Results whose funds went elsewhere before they settled.", "livemax"
        )

    @cached_property
    def _paid_late(self) -> Gauge:
        return self._gauge(
            "jobs_paid_late",
            "Jobs paid after they had failed: their purchasers must be given the money back.",
            "livemax",
        )

    @cached_property
    def _backlog(self) -> Gauge:
        return self._gauge(
            "settlement_backlog",
            "Results that wait to be submitted to the payment service, in the whole fleet.",
            "livemax",
        )

    def _gauge(
        self, name: str, text: str, across_workers: Literal["livemax", "livemin"], *labels: str
    ) -> Gauge:
        return Gauge(
            f"tollgate_{name}",
            text,
            labels,
            registry=self._registry,
            multiprocess_mode=across_workers,
        )
