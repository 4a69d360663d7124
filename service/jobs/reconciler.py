"""What the payment service knows, brought to our jobs: two ticks, each safe to run anywhere.

- ``changes``: one worker of the fleet reads the change feed from a remembered watermark.
- ``checks``: any worker looks at single jobs whose time has come: intents that never got an answer,
  unpaid jobs the feed may have passed over, and those whose time to pay is over.

The chain's word decides, not our clock: a job fails for want of payment only when the payment
service says so, or says nothing of funds after the time to pay and a grace have passed. What each
state of a payment means for each state of its job is decided in ``following``.
"""

from __future__ import annotations

import os
import socket
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Protocol
from uuid import UUID, uuid4

import structlog

from service import deadline, tracing
from service.errors import (
    CircuitOpen,
    PaymentBusy,
    PaymentRejected,
    PaymentUnavailable,
    TollgateError,
)
from service.jobs.following import Step, overdue, step
from service.jobs.lifecycle import Waker, terms_of
from service.jobs.models import JobState, OpenPayment
from service.jobs.repository import JobRepository
from service.jobs.turns import Turns
from service.metrics import Metrics
from service.payments.models import ChangePage, Payment, Watermark
from service.settings import JobSettings, PaymentSettings

log = structlog.get_logger()

LOOP = "payment-changes"
#: Several polls long, so that a slow one does not hand the feed over; short enough to take over.
LOOP_LEASE_S = 30.0
#: Between two looks at one job; the change feed is the usual way.
CHECK_AGAIN_S = 30.0
CHECKS_AT_ONCE = 20
#: Jobs that single looks are taken at, so that the feed may leave one to them.
CHECKED = frozenset({JobState.CREATING, JobState.AWAITING_PAYMENT})
#: The feed is read from a little before the oldest open job: the two clocks may differ.
CLOCK_MARGIN = timedelta(minutes=10)
#: Read again at the feed's end: a change may become visible after a later one.
OVERLAP_S = 5.0

#: One tick takes no longer, so that its leases outlast it.
TICK_S = 25.0


class PaymentReader(Protocol):
    async def find(self, job_id: UUID, *, created_after: datetime) -> Payment | None: ...
    async def resolve(self, blockchain_identifier: str) -> Payment | None: ...
    async def changes(self, since: Watermark, limit: int = 100) -> ChangePage: ...


def worker_name() -> str:
    """A name for this worker's leases: readable, and different after every start."""
    return f"{socket.gethostname()}:{os.getpid()}:{uuid4().hex[:8]}"


class Reconciler:
    def __init__(
        self,
        repository: JobRepository,
        gateway: PaymentReader,
        *,
        settings: JobSettings,
        payment: PaymentSettings,
        metrics: Metrics,
        runs: Waker,
        owner: str,
    ) -> None:
        self._repository = repository
        self._gateway = gateway
        self._settings = settings
        self._pay_grace_s = payment.pay_grace
        self._metrics = metrics
        self._runs = runs
        self._owner = owner
        self._turns = Turns()

    async def changes(self) -> bool:
        """Read the change feed on; True when there may be more of it."""
        memory = await self._repository.take_loop(LOOP, self._owner, lease_s=LOOP_LEASE_S)
        if memory is None:
            return False
        since = await self._watermark(memory)
        if since is None:
            return False
        with deadline.within(TICK_S):
            page = await self._gateway.changes(since)
            if memory and not page.payments and page.next == since:
                return False
            await self._observe(page.payments)
        # Also when there was nothing yet: the feed is read on when no job waits any more, for what
        # comes late. And only now that the page was dealt with: a crash before it reads it again.
        following = page.next.rewound(OVERLAP_S) if page.complete else page.next
        position = {"last_update": following.last_update, "cursor_id": following.cursor_id}
        await self._repository.save_loop(LOOP, self._owner, position)
        # A feed that has not moved is asked again in a while, as one that is at its end.
        return not page.complete and page.next != since

    async def checks(self) -> bool:
        """Look at single jobs that are due; True when there may be more of them."""
        due = await self._repository.claim_payment_checks(
            most=CHECKS_AT_ONCE, again_in_s=CHECK_AGAIN_S
        )
        with deadline.within(TICK_S):
            for job in self._turns.order(due):
                try:
                    with (
                        self._turns.taken(job.job_id),
                        tracing.step("payment check", job.job_id, job.origin),
                    ):
                        await self._check(job)
                except PaymentRejected as error:  # one that is refused must not stop the others
                    log.error(
                        "payment_check_rejected", job_id=str(job.job_id), reason=error.message
                    )
        return len(due) == CHECKS_AT_ONCE

    async def leave_quietly(self) -> None:
        """Let another worker read the feed at once; if that fails, the lease ends by itself."""
        try:
            await self._repository.leave_loop(LOOP, self._owner)
        except TollgateError as error:
            log.info("lease_not_left", lease=LOOP, code=error.code)

    async def _watermark(self, memory: dict[str, str | None]) -> Watermark | None:
        if last_update := memory.get("last_update"):
            return Watermark(last_update=last_update, cursor_id=memory.get("cursor_id"))
        since: datetime | None = await self._repository.oldest_open_payment()
        if since is None:
            return None
        return Watermark.at(since - CLOCK_MARGIN)

    async def _observe(self, payments: tuple[Payment, ...]) -> None:
        jobs = await self._repository.find_payments(
            [payment.blockchain_identifier for payment in payments],
            [job_id for payment in payments if (job_id := _job_id(payment))],
        )
        by_chain = {job.blockchain_identifier: job for job in jobs if job.blockchain_identifier}
        by_id = {job.job_id: job for job in jobs}
        for payment in payments:
            job = by_chain.get(payment.blockchain_identifier)
            if job is None and (job_id := _job_id(payment)):
                job = by_id.get(job_id)
            if job is None or job.blockchain_identifier not in (
                None,
                payment.blockchain_identifier,
            ):
                # Nobody's, or a second one made for the job (a proxy may send a create twice): its
                # purchaser was told of the other, so nothing that befalls this one concerns him.
                continue
            await self._change(job, payment)

    async def _change(self, job: OpenPayment, payment: Payment) -> None:
        """One change of the feed; one bad payment must not stop the others'."""
        failed_before = self._turns.failed(job.job_id)
        try:
            with (
                self._turns.taken(job.job_id),
                tracing.step("payment change", job.job_id, job.origin),
            ):
                await self._apply(job, payment, confirmed=False)
        except PaymentRejected as error:
            log.error("payment_rejected", job_id=str(job.job_id), reason=error.message)
        except (CircuitOpen, PaymentBusy):
            raise
        except PaymentUnavailable as error:
            if not (failed_before and job.state in CHECKED):
                raise
            log.warning("payment_change_put_off", job_id=str(job.job_id), code=error.code)

    async def _check(self, job: OpenPayment) -> None:
        if job.state is JobState.CREATING:
            await self._find_intent(job)
        else:
            await self._check_unpaid(job)

    async def _find_intent(self, job: OpenPayment) -> None:
        payment = await self._gateway.find(job.job_id, created_after=job.created_at - CLOCK_MARGIN)
        if payment is not None:
            try:
                await self._apply(job, payment, confirmed=False)
            except PaymentRejected as error:
                # One that nobody can pay, or another job's: it will not become better.
                if not await self._abandon(job, error.code, error.message):
                    raise
            return
        age_s = (datetime.now(UTC) - job.created_at).total_seconds()
        if age_s >= self._settings.intent_grace:
            await self._abandon(
                job, "payment-not-made", "The payment service did not take the payment request."
            )

    async def _abandon(self, job: OpenPayment, code: str, failure: str) -> bool:
        if not await self._repository.abandon(job.job_id, code, failure):
            return False
        age_s = (datetime.now(UTC) - job.created_at).total_seconds()
        log.warning("intent_abandoned", job_id=str(job.job_id), age_s=round(age_s), reason=code)
        self._metrics.job_moved(JobState.CREATING, JobState.FAILED)
        return True

    async def _check_unpaid(self, job: OpenPayment) -> None:
        if job.blockchain_identifier is None:
            raise AssertionError("a job awaiting payment has its terms")
        payment = await self._gateway.resolve(job.blockchain_identifier)
        if payment is not None:
            await self._apply(job, payment, confirmed=True)
        state = payment.on_chain_state if payment else None
        if ending := overdue(job, state, now=datetime.now(UTC), grace_s=self._pay_grace_s):
            await self._take(ending, job, payment)

    async def _apply(self, job: OpenPayment, payment: Payment, *, confirmed: bool) -> None:
        """Bring one payment's state to its job; ``confirmed``: read for this job, just now."""
        if job.state is JobState.CREATING:
            if not await self._repository.attach(job.job_id, terms_of(payment), "payment-found"):
                return  # somebody else was first, perhaps with another payment
            log.info("intent_attached", job_id=str(job.job_id))
            self._metrics.job_moved(JobState.CREATING, JobState.AWAITING_PAYMENT)
            job = replace(
                job,
                state=JobState.AWAITING_PAYMENT,
                blockchain_identifier=payment.blockchain_identifier,
                pay_by_time_ms=payment.pay_by_time_ms,
                submit_result_time_ms=payment.submit_result_time_ms,
            )
        wanted = step(job, payment)
        if wanted.moves and not confirmed:
            # The feed may be behind (funds may have gone by now): nothing moves on a contradiction.
            latest = await self._gateway.resolve(payment.blockchain_identifier)
            if latest is None or step(job, latest) != wanted:
                return
            payment = latest
        await self._take(wanted, job, payment)

    async def _take(self, wanted: Step, job: OpenPayment, payment: Payment | None) -> None:
        """Do what a payment's state asks for; the statements' guards see to it that it is once."""
        state = payment.on_chain_state if payment else None
        if wanted.kind == "note":
            await self._repository.note_chain_state(job.job_id, state)
        elif wanted.kind == "run":
            await self._begin(job, state)
        elif wanted.kind in ("fail", "stop"):
            await self._fail(wanted, job, payment)
        elif wanted.kind == "reopen":
            if await self._repository.outbox.reopen(job.job_id, state):
                log.warning("settlement_reopened", job_id=str(job.job_id), on_chain_state=state)
        elif payment is not None and await self._repository.note_late_payment(
            job.job_id, payment.blockchain_identifier, state
        ):
            # Nobody but the operator can give it back before it returns by itself.
            log.error("late_payment", job_id=str(job.job_id), on_chain_state=state)

    async def _begin(self, job: OpenPayment, on_chain_state: str | None) -> None:
        if await self._repository.confirm_payment(job.job_id, on_chain_state or ""):
            log.info("payment_seen", job_id=str(job.job_id))
            self._metrics.job_moved(JobState.AWAITING_PAYMENT, JobState.RUNNING)
            self._runs.wake()

    async def _fail(self, wanted: Step, job: OpenPayment, payment: Payment | None) -> None:
        fail = self._repository.fail_unpaid
        if wanted.kind == "stop":
            fail = self._repository.fail_withdrawn
        state = payment.on_chain_state if payment else None
        if await fail(job.job_id, wanted.code, wanted.text, state):
            # The note is the service's own text: for the operator, not for the purchaser.
            note = payment.error_note if payment else None
            log.info("payment_failed", job_id=str(job.job_id), reason=wanted.code, note=note)
            self._metrics.job_moved(job.state, JobState.FAILED)


def _job_id(payment: Payment) -> UUID | None:
    try:
        return UUID(payment.metadata or "")
    except ValueError:
        return None
