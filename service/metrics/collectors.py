"""Every measure Tollgate takes of itself, declared once; HTTP itself is counted in ``http``.

``prometheus_client`` decides when it is first imported whether values live in this process or in
files shared by all workers of a replica, by PROMETHEUS_MULTIPROC_DIR: the server sets it before
any worker imports this module. Labels come from closed sets only (policies, states, outcomes),
never from what a client sent.
"""

from __future__ import annotations

from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from service.metrics.admission import AdmissionCounts
from service.metrics.cache import CacheCounts
from service.metrics.census import JobCensus
from service.metrics.changes import ChangeCounts
from service.metrics.degraded import Capacity, DegradedModes
from service.metrics.outbound import OutboundCounts
from service.metrics.overload import OverloadCounts
from service.metrics.pool import DatabaseCounts
from service.metrics.status import StatusCounts
from service.metrics.worker import WorkerCounts

#: A payment call has a budget of 24 s: fine where calls should be, coarse towards the limit.
PAYMENT_BUCKETS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 7.5, 10, 15, 20, 25)
#: Runs last from milliseconds (built-in flows) to an hour.
RUN_BUCKETS_S = (0.05, 0.25, 1, 5, 15, 60, 300, 900, 1800, 3600)
BREAKER_STATES = {"closed": 0, "half-open": 1, "open": 2}
#: There at 0 from the start: rates do not see the first of a series that begins with it.
BREAKER_STEPS = (
    ("open", "failures"),
    ("half-open", "recovery"),
    ("closed", "probe-ok"),
    ("open", "probe-failed"),
)


class Metrics:
    """The ``tollgate_*`` collectors, one attribute each; one object per registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self.admission = AdmissionCounts(registry)
        self.overload = OverloadCounts(registry)
        self.database = DatabaseCounts(registry)
        self.cache = CacheCounts(registry)
        self.changes = ChangeCounts(registry)
        self.status = StatusCounts(registry)
        self.outbound = OutboundCounts(registry)
        self.census = JobCensus(registry)
        self.degraded = DegradedModes(registry)
        self.capacity = Capacity(registry)
        self.worker = WorkerCounts(registry)
        self._breaker_and_payments()
        self._jobs()
        self.flows_unreadable = self._counter(
            "flows_unreadable",
            "Stored flows that this version could not read: each time a worker finds one. It is not"
            " for sale until it is imported again.",
        )

    def breaker(self, name: str, state: Literal["closed", "half-open", "open"]) -> None:
        """Show the breaker's state as this worker last saw it."""
        self.breaker_state.labels(name).set(BREAKER_STATES[state])

    def job_moved(self, before: str, after: str) -> None:
        """Count a job's change of state; ``before`` is ``none`` for a new job."""
        self.job_transitions.labels(before, after).inc()

    def run_ended(self, kind: str, outcome: str, seconds: float) -> None:
        """Count one run of a flow and its time."""
        self.runner_runs.labels(kind, outcome).inc()
        self.runner_run_seconds.labels(kind).observe(seconds)

    def _breaker_and_payments(self) -> None:
        self.breaker_state = self._gauge(
            "breaker_state",
            "State of a circuit breaker as the workers see it: 0 closed, 1 half-open, 2 open;"
            " the worst view of all workers.",
            "livemax",
            "breaker",
        )
        self.breaker_transitions = self._counter(
            "breaker_transitions",
            "Changes of a circuit breaker's state, each counted once in the fleet. cause: failures,"
            " recovery, probe-ok, probe-failed, probe-lost, forced, reset and a few more.",
            "breaker",
            "to",
            "cause",
        )
        for to, cause in BREAKER_STEPS:
            self.breaker_transitions.labels("payment", to, cause)
        self.payment_calls = self._counter(
            "payment_calls",
            "Calls to the payment service. operation: create, find, resolve, changes, submit,"
            " recover, refund, check; outcome: ok, rejected, unavailable, open (not sent, circuit"
            " open), busy (not sent, bulkhead full), unknown (sent, no answer).",
            "operation",
            "outcome",
        )
        self.payment_call_seconds = self._histogram(
            "payment_call_seconds",
            "Time of a whole call to the payment service, retries included, in seconds.",
            PAYMENT_BUCKETS_S,
            "operation",
        )

        self.payments_unreadable = self._counter(
            "payments_unreadable",
            "Payments in the payment service's lists that this version could not read; each once in"
            " a worker that meets it.",
        )

    def _jobs(self) -> None:
        self.job_transitions = self._counter(
            "job_transitions",
            "Jobs that went from one state to another; from is none for a new job.",
            "from",
            "to",
        )
        self.runner_runs = self._counter(
            "runner_runs",
            "Runs of flows that ended. kind: builtin or http; outcome: done, failed,"
            " needs-input, unavailable, lost (lease lost to another worker).",
            "kind",
            "outcome",
        )
        self.runner_run_seconds = self._histogram(
            "runner_run_seconds", "Time of one run of a flow, in seconds.", RUN_BUCKETS_S, "kind"
        )

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"tollgate_{name}", text, labels, registry=self.registry)

    def _histogram(
        self, name: str, text: str, buckets: tuple[float, ...], *labels: str
    ) -> Histogram:
        return Histogram(f"tollgate_{name}", text, labels, registry=self.registry, buckets=buckets)

    def _gauge(
        self,
        name: str,
        text: str,
        across_workers: Literal["livesum", "livemax", "livemin"],
        *labels: str,
    ) -> Gauge:
        return Gauge(
            f"tollgate_{name}",
            text,
            labels,
            registry=self.registry,
            multiprocess_mode=across_workers,
        )
