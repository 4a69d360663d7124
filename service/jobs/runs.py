"""Runs jobs: claims them under a lease, has the flow's runner do the work, writes the outcome down.

At most ``concurrency`` runs at once in a worker. A lease is renewed while the run lasts; a worker
that dies stops renewing, and another one takes the job up. Outcomes are written only under the
claim's own attempt number, so a run that was given up for dead changes nothing when it ends after
all; the runner sees the same job id both times.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from uuid import UUID

import structlog

from service import tracing
from service.errors import DependencyError, RunnerUnavailable, TollgateError
from service.flows.models import Flow
from service.jobs.models import Claim, JobState
from service.jobs.repository import SUSPECT_AFTER, JobRepository
from service.metrics import Metrics
from service.mip.hashing import result_hash, schema_hashes
from service.runners.models import Answer, Done, Failed, NeedsInput, RunOutcome, RunRequest
from service.runners.runners import Runners
from service.settings import JobSettings
from service.tasks import end

log = structlog.get_logger()

#: A lease is renewed so often before it would end ...
RENEWALS_PER_LEASE = 3
#: ... and a renewal that failed is tried again this soon: it is not to end under a run at work.
RENEW_AGAIN_S = 1.0
#: A run that failed for a passing reason is tried again after 2, 4, 8 … s.
RETRY_BASE_S = 2.0
RETRY_MAX_S = 120.0
#: What its runner calls a passing failure is not tried for ever: so many of them are final. Runs
#: that were given back, or whose runner was away, do not count.
MAX_FAILED = 8


class Runs:
    """Call ``tick`` now and then (a Loop does); ``stop`` hands back what is not finished."""

    def __init__(
        self,
        repository: JobRepository,
        flow_by_uid: Callable[[UUID], Awaitable[Flow]],
        runners: Runners,
        *,
        settings: JobSettings,
        metrics: Metrics,
        owner: str,
        draining: Callable[[], bool] = lambda: False,
    ) -> None:
        self._repository = repository
        self._flow_by_uid = flow_by_uid
        self._runners = runners
        self._settings = settings
        self._metrics = metrics
        self._owner = owner
        self._draining = draining
        self._held: dict[UUID, tuple[Claim, asyncio.Task[None]]] = {}
        #: When the leases here were last known to be kept (monotonic).
        self._renewed_s = time.monotonic()

    def __repr__(self) -> str:
        return f"<Runs {len(self._held)} of {self._settings.concurrency}>"

    @property
    def held(self) -> int:
        return len(self._held)

    async def tick(self) -> bool:
        """Claim what there is room for; True when there may be more."""
        room = self._settings.concurrency - len(self._held)
        if room <= 0 or self._draining():
            return False
        if time.monotonic() - self._renewed_s > self._settings.lease_seconds:
            await self.renew()  # PostgreSQL was away: what runs here is not to be claimed anew
        suspected = any(claim.lost_runs >= SUSPECT_AFTER for claim, _ in self._held.values())
        claims = await self._repository.claim_runs(
            self._owner, most=room, suspects=0 if suspected else 1
        )
        for claim in claims:
            self._hold(claim)
        return len(claims) == room and len(self._held) < self._settings.concurrency

    async def renew(self) -> bool:
        """Keep the leases of all runs here; a run whose lease is lost is stopped."""
        began_s = time.monotonic()
        if held := {job_id: run for job_id, (_, run) in self._held.items()}:
            kept = await self._repository.renew(self._owner, list(held))
            for job_id in held.keys() - kept:
                _stop(job_id, held[job_id])
        self._renewed_s = began_s
        return False

    async def expire(self) -> bool:
        """Fail what has waited or run too long, anywhere."""
        if expired := await self._repository.expire():
            log.info("jobs_expired", count=expired)
        return False

    async def stop(self, *, within_s: float) -> None:
        """Let the runs here finish for a while; hand the others back at once."""
        if not self._held:
            return
        await asyncio.wait([task for _, task in self._held.values()], timeout=within_s)
        await end(*(task for _, task in self._held.values()))

    def _hold(self, claim: Claim) -> None:
        if claim.job_id in self._held:  # its lease had ended, and it was lost to ourselves
            _stop(claim.job_id, self._held[claim.job_id][1])
        task = asyncio.create_task(self._run(claim), name=f"run-{claim.job_id}")
        self._held[claim.job_id] = (claim, task)

        def let_go(_: asyncio.Task[None]) -> None:
            if self._held.get(claim.job_id, (None, None))[1] is task:
                del self._held[claim.job_id]

        task.add_done_callback(let_go)

    async def _run(self, claim: Claim) -> None:
        with tracing.step("run", claim.job_id, claim.origin, attempt=claim.attempt) as span:
            await self._run_once(claim, span)

    async def _run_once(self, claim: Claim, span: tracing.Span) -> None:
        try:
            outcome, kind, took_s = await self._outcome(claim)
            if isinstance(outcome, Failed):
                span.fail(outcome.code)
            await self._record(claim, outcome, kind, took_s)
        except asyncio.CancelledError:
            # Draining, or the lease was lost (then the fence makes this do nothing).
            await asyncio.shield(self._give_back(claim, 0.0, "stopped"))
            raise
        except DependencyError as error:
            span.fail(error.code)
            pause_s = max(_pause_s(claim.attempt - 1), error.retry_after_s or 0.0)
            await self._give_back(claim, pause_s, error.code)
        except Exception:
            log.exception("run_crashed")
            span.fail("crashed")
            await self._give_back(claim, _pause_s(claim.attempt - 1), "crashed")

    async def _outcome(self, claim: Claim) -> tuple[RunOutcome, str, float]:
        flow = await self._flow_by_uid(claim.flow_uid)
        request = RunRequest(
            job_id=claim.job_id,
            flow=flow,
            variant=claim.variant,
            inputs=claim.runner_input,
            answers=tuple(Answer(request_id, inputs) for request_id, inputs in claim.answers),
            deadline=claim.run_deadline,
        )
        kind = flow.runner.kind
        began_s = time.monotonic()
        left_s = (claim.run_deadline - datetime.now(UTC)).total_seconds()
        log.info("run_started", flow=flow.slug, kind=kind)
        try:
            told = {"tollgate.flow": flow.slug, "tollgate.runner": kind}
            with tracing.span("runner", attributes=told):
                async with asyncio.timeout(max(0.0, left_s)):
                    outcome = await self._runners.for_flow(flow).run(request)
        except TimeoutError:
            outcome = Failed("run-too-late", "The run could not be finished in time.", False)
        except RunnerUnavailable:
            self._metrics.run_ended(kind, "unavailable", time.monotonic() - began_s)
            raise
        return outcome, kind, time.monotonic() - began_s

    async def _record(self, claim: Claim, outcome: RunOutcome, kind: str, took_s: float) -> None:
        if isinstance(outcome, Failed) and outcome.retryable and claim.failed_runs + 1 < MAX_FAILED:
            self._metrics.run_ended(kind, "failed", took_s)
            await self._give_back(claim, _pause_s(claim.failed_runs), outcome.code, failed=True)
            return
        if isinstance(outcome, Done):
            name, after = "done", JobState.COMPLETED
            digest = result_hash(
                claim.identifier_from_purchaser or "", outcome.result, self._settings.result_hash
            )
            written = await self._repository.complete(claim, outcome.result, digest)
            if not written and await self._too_late(claim):
                name, after, written = "failed", JobState.FAILED, True
        elif isinstance(outcome, NeedsInput):
            name, after = "needs-input", JobState.AWAITING_INPUT
            written = await self._ask(claim, outcome)
        else:
            name, after = "failed", JobState.FAILED
            written = await self._repository.fail(claim, outcome.code, outcome.message)
        self._metrics.run_ended(kind, name if written else "lost", took_s)
        if not written:
            log.warning("run_outcome_dropped", outcome=name)
            return
        self._metrics.job_moved(JobState.RUNNING, after)
        log.info("run_ended", outcome=name, duration_ms=round(took_s * 1000))

    async def _too_late(self, claim: Claim) -> bool:
        """A result that was refused though the run was still ours: it could not be settled."""
        return await self._repository.fail(
            claim, "result-too-late", "The result came too late to be settled."
        )

    async def _ask(self, claim: Claim, question: NeedsInput) -> bool:
        document = question.schema.document()
        return await self._repository.ask(
            claim,
            question.request_id,
            document,
            schema_hashes(document),
            wait_s=self._wait_s(question),
        )

    def _wait_s(self, question: NeedsInput) -> float:
        if question.expires_at is None:
            return self._settings.input_timeout
        left_s = (question.expires_at - datetime.now(UTC)).total_seconds()
        return max(0.0, min(left_s, self._settings.input_timeout))

    async def _give_back(
        self, claim: Claim, again_in_s: float, reason: str, *, failed: bool = False
    ) -> None:
        """Free the job for another try; if even that fails, its lease ends by itself."""
        try:
            if await self._repository.release(claim, again_in_s=again_in_s, failed=failed):
                log.info("run_given_back", reason=reason, again_in_s=round(again_in_s, 1))
        except TollgateError as error:
            log.warning("run_not_given_back", reason=reason, code=error.code)


def _stop(job_id: UUID, run: asyncio.Task[None]) -> None:
    """End a run that is not ours any more; one that has just finished is not ours either."""
    if not run.done():
        log.warning("run_lost", job_id=str(job_id))
        run.cancel()


def _pause_s(before: int) -> float:
    """After so many tries before this one."""
    return float(min(RETRY_MAX_S, RETRY_BASE_S * 2 ** min(before, 10)))
