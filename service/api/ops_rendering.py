"""From the words of the domain to what the operations page is sent."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import datetime

from service.admission.published import Change
from service.admission.rulebook import Rulebook
from service.api import ops_views
from service.breaker.models import BreakerSnapshot, Event
from service.fleet.models import BOUNDS_S, Numbers, Sample, Seen
from service.fleet.picture import quantile
from service.jobs.described import facts, shortened
from service.jobs.inspection import Dossier, Listed
from service.jobs.models import Job, JobEvent
from service.settings import Rate

#: Its answers may wait for a change as long as the client likes: no measure of our speed.
WAITING_CLASS = "status"
ALL = "all"


def numbers_view(
    numbers: Numbers, *, at_ms: int, workers: int, lag_ms: float
) -> ops_views.NumbersView:
    latency = {name: _latency(buckets) for name, buckets in numbers.seconds.items()}
    latency[ALL] = _latency(
        [
            sum(buckets[i] for name, buckets in numbers.seconds.items() if name != WAITING_CLASS)
            for i in range(len(BOUNDS_S) + 1)
        ]
    )
    return ops_views.NumbersView(
        at_ms=at_ms,
        workers=workers,
        lag_ms=lag_ms,
        answers={name: dict(row) for name, row in numbers.traffic.items()},
        latency=latency,
        policies={name: dict(row) for name, row in numbers.decisions.items()},
        cache=dict(numbers.cache),
        payments=dict(numbers.payments),
        jobs=dict(numbers.jobs),
        in_flight=numbers.in_flight,
        waiting_clients=ops_views.UseView.model_validate(numbers.waiting_clients),
        pool=ops_views.UseView.model_validate(numbers.pool),
        bulkhead=ops_views.UseView.model_validate(numbers.bulkhead),
        runs=ops_views.UseView.model_validate(numbers.runs),
    )


def sample_view(sample: Sample) -> ops_views.NumbersView:
    return numbers_view(
        sample.numbers,
        at_ms=round(sample.at_s * 1000),
        workers=sample.workers,
        lag_ms=sample.lag_ms,
    )


def worker_view(seen: Seen) -> ops_views.WorkerView:
    report, identity, numbers = seen.report, seen.report.identity, seen.report.numbers
    rate = sum(rate for row in numbers.traffic.values() for rate in row.values())
    return ops_views.WorkerView(
        worker=identity.worker,
        replica=identity.replica,
        pid=identity.pid,
        version=identity.version,
        role=identity.role,
        up_s=round(max(0.0, time.time() - identity.started_s), 1),
        age_s=round(seen.age_s, 1),
        requests=report.requests,
        per_second=round(rate, 1),
        in_flight=numbers.in_flight,
        lag_ms=report.lag_ms,
        memory_bytes=report.memory_bytes,
        limiter=report.limiter,
        modes=list(report.modes),
        pool=ops_views.UseView.model_validate(numbers.pool),
        bulkhead=ops_views.UseView.model_validate(numbers.bulkhead),
        runs=ops_views.UseView.model_validate(numbers.runs),
        waiting_clients=ops_views.UseView.model_validate(numbers.waiting_clients),
    )


def breaker_view(
    seen: BreakerSnapshot, events: Sequence[Event], threshold: int
) -> ops_views.BreakerView:
    return ops_views.BreakerView(
        state=seen.state,
        streak=seen.streak,
        threshold=threshold,
        retry_after_ms=seen.retry_after_ms,
        generation=seen.generation,
        error=seen.error,
        force=ops_views.ForceView.model_validate(seen.force) if seen.force else None,
        local=seen.degraded,
        events=[
            ops_views.BreakerEventView(
                at_ms=_ms(event.at),
                before=event.transition.before,
                after=event.transition.after,
                cause=event.transition.cause,
                who=event.by or event.worker,
                detail=event.detail,
                seconds=event.seconds,
            )
            for event in events
        ],
    )


def policies_view(rulebook: Rulebook) -> list[ops_views.PolicyView]:
    return [
        ops_views.PolicyView(
            name=policy.name,
            rate=str(Rate(policy.tokens, policy.period_s)),
            burst=policy.burst,
            scope=policy.scope,
            on_outage=policy.on_outage,
            shadow=policy.shadow,
            routes=[route for route, names in rulebook.routes.items() if policy.name in names],
        )
        for policy in rulebook.policies.values()
    ]


def changes_view(events: Sequence[Event], changes: Sequence[Change]) -> list[ops_views.ChangeView]:
    """What was done by hand, to the breaker and to limits, the latest first."""
    by_hand = [
        ops_views.ChangeView(
            at_ms=_ms(event.at),
            who=event.by,
            what=_deed(event),
            detail=event.detail,
        )
        for event in events
        if event.by
    ]
    limits = [
        ops_views.ChangeView(
            at_ms=_ms(change.at), who=change.author, what=f"limits: {change.kind}",
            detail=change.detail,
        )
        for change in changes
    ]  # fmt: skip
    return sorted(by_hand + limits, key=lambda change: -change.at_ms)


def job_line(job: Listed) -> ops_views.JobLineView:
    return ops_views.JobLineView(
        id=str(job.id),
        flow=f"{job.flow_slug}+{job.variant}",
        state=job.state,
        settlement=job.settlement,
        on_chain_state=job.on_chain_state,
        failure_code=job.failure_code,
        lease_owner=job.lease_owner,
        run_attempts=job.run_attempts,
        created_ms=_ms(job.created_at),
        updated_ms=_ms(job.updated_at),
    )


def job_view(dossier: Dossier, job: Job, events: Sequence[JobEvent]) -> ops_views.JobView:
    return ops_views.JobView(
        facts=facts(dossier, job),
        state=dossier.state,
        paid_late=dossier.paid_late,
        events=[
            ops_views.JobEventView(
                seq=event.seq,
                at_ms=_ms(event.created_at),
                state=event.state,
                cause=event.cause,
                detail=shortened(event.detail) if event.detail else None,
            )
            for event in events
        ],
    )


def _latency(buckets: Sequence[float]) -> ops_views.LatencyView:
    p50, p95, p99 = (quantile(buckets, share) for share in (0.5, 0.95, 0.99))
    return ops_views.LatencyView(p50_ms=_in_ms(p50), p95_ms=_in_ms(p95), p99_ms=_in_ms(p99))


def _in_ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 2)


def _deed(event: Event) -> str:
    if event.transition.cause == "reset":
        return "breaker: reset"
    lasts = f" for {event.seconds:g} s" if event.seconds else ""
    return f"breaker: forced {event.transition.after}{lasts}"


def _ms(at: datetime) -> int:
    return round(at.timestamp() * 1000)
