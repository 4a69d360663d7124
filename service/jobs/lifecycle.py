"""The use cases a client has: start a job, answer its question (how it is: ``statuses``).

Starting a paid job is an intent first: the job and its idempotency key are in PostgreSQL before the
payment service is called, with the job's id as the payment's metadata. Whatever dies when, the
reconciler finds such an intent and asks the payment service by that metadata, so that there is
never a second payment and never a payment without its job. From the intent on, starting goes on
though the client leaves or the request's time is over.
"""

from __future__ import annotations

import asyncio
import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol
from uuid import UUID, uuid4

import structlog

from service import deadline, tracing
from service.errors import (
    CircuitOpen,
    DeadlineExceeded,
    DependencyError,
    FieldError,
    IdempotencyMismatch,
    InvalidInput,
    NotAwaitingInput,
    PaymentOutcomeUnknown,
    PaymentRejected,
    PaymentUnavailable,
    RequestInProgress,
    TollgateError,
    UnknownJob,
)
from service.jobs.detached import Detached
from service.jobs.models import (
    Job,
    JobState,
    KeyRecord,
    NewJob,
    PaymentTerms,
    ProvidedInput,
    StartCommand,
    Started,
)
from service.jobs.repository import JobRepository
from service.metrics import Metrics
from service.mip.hashing import canonical, content_faults, input_hash
from service.mip.schema import InputSchema
from service.mip.validation import check_purchaser_identifier, validate_input
from service.payments.models import Fund, Payment, PaymentOrder
from service.settings import JobSettings, PaymentSettings

log = structlog.get_logger()

#: For writing down what became of a payment call, whatever the request has left.
RECORD_S = 10.0
#: How long the client waits for that.
ANSWER_S = 2.5
#: Between two tries at that.
RECORD_PAUSE_S = 0.25
#: At shutdown, for what clients have left behind; requests in hand have had their time before.
CLOSE_S = 10.0
NOT_READ_BACK = "The job was started; send the same request again to be told its terms."
#: A payment call usually takes no longer than this.
USUAL_START_S = 2.0
#: After the moment an intent is looked at, until what was found is written down.
LOOK_S = 1.0


class PaymentMaker(Protocol):
    async def check_open(self) -> None: ...

    async def create(self, order: PaymentOrder) -> Payment: ...


class Waker(Protocol):
    def wake(self) -> None: ...


class Lifecycle:
    def __init__(
        self,
        repository: JobRepository,
        gateway: PaymentMaker,
        *,
        settings: JobSettings,
        payment: PaymentSettings,
        metrics: Metrics,
        runs: Waker,
    ) -> None:
        self._repository = repository
        self._gateway = gateway
        self._settings = settings
        self._payment = payment
        self._metrics = metrics
        self._runs = runs
        self._detached = Detached()

    async def close(self) -> None:
        """Wait for starts whose clients have left; before the gateway and the database close."""
        await self._detached.close(within_s=CLOSE_S)

    async def start(self, command: StartCommand) -> Started:
        """Record the job, have its payment made, and give its terms; free jobs run at once.

        Raises InvalidInput before anything is written or called; RequestInProgress and
        IdempotencyMismatch for a key in use; PaymentUnavailable or PaymentRejected when certainly
        no payment exists (the key is free again); PaymentOutcomeUnknown when the reconciler must
        find out (the same key answers with the job once it has).
        """
        new = self._new_job(command)
        return await self._detached.finish(self._begin(new, command), name=f"start-{new.id}")

    async def _begin(self, new: NewJob, command: StartCommand) -> Started:
        # In a task of its own: everything from here on names the job, and nothing else does.
        structlog.contextvars.bind_contextvars(job_id=str(new.id))
        holder = await self._held_while_open(new) or await self._repository.create(new)
        if holder is not None:
            return await self._replay(holder, new.fingerprint)
        log.info(
            "job_started", job_id=str(new.id), flow=command.flow.slug, variant=command.variant.name
        )
        if command.variant.free:
            self._metrics.job_moved("none", JobState.RUNNING)
            self._runs.wake()
        else:
            self._metrics.job_moved("none", JobState.CREATING)
            await self._have_paid(new)
        try:
            return Started(await self.get(new.id), replayed=False)
        except (DependencyError, DeadlineExceeded) as error:
            if command.variant.free:
                raise
            # "Nothing was started" would be a lie now.
            raise PaymentOutcomeUnknown(NOT_READ_BACK) from error

    async def _held_while_open(self, new: NewJob) -> KeyRecord | None:
        """What the key stands for, where it is known that no payment can be made now.

        A repeated request gets its job; for a new one CircuitOpen is raised before anything is
        written that would have to be given up at once.
        """
        if new.command.variant.free:
            return None
        try:
            await self._gateway.check_open()
        except CircuitOpen:
            holder = await self._repository.key_holder(new)
            if holder is None:
                raise
            return holder
        return None

    async def get(self, job_id: UUID, *, flow_uid: UUID | None = None) -> Job:
        """The job, when it is this flow's; raises UnknownJob."""
        job = await self._repository.get(job_id)
        if job is None or (flow_uid is not None and job.flow_uid != flow_uid):
            raise UnknownJob
        return job

    async def provide_input(
        self,
        job_id: UUID,
        *,
        flow_uid: UUID | None,
        status_id: str | None,
        input_schema_hash: str | None,
        input_data: dict[str, Any],
    ) -> ProvidedInput:
        """Answer the job's open question, named by status id or schema hash.

        The same answer to a question just answered gets the same receipt again. Raises
        UnknownJob, NotAwaitingInput, InvalidInput.
        """
        job = await self.get(job_id, flow_uid=flow_uid)
        question = job.input_request
        answer_hash = input_hash(job.identifier_from_purchaser or "", input_data)
        receipt = ProvidedInput(input_hash=answer_hash, signature="")
        if question is None or not _names(
            question.status_id, question.schema_hashes, status_id, input_schema_hash
        ):
            return await self._answered_before(job, status_id, input_schema_hash, receipt)
        runner_answer = validate_input(InputSchema.model_validate(question.schema), input_data)
        if not await self._repository.answer(
            job_id, question.status_id, input_data, runner_answer, answer_hash
        ):
            return await self._answered_before(job, status_id, input_schema_hash, receipt)
        log.info("input_provided", job_id=str(job_id))
        self._metrics.job_moved(JobState.AWAITING_INPUT, JobState.RUNNING)
        self._runs.wake()
        return receipt

    async def _answered_before(
        self, job: Job, status_id: str | None, schema_hash: str | None, receipt: ProvidedInput
    ) -> ProvidedInput:
        for question_id, hashes, answer_hash in await self._repository.answered(job.id):
            if _names(question_id, hashes, status_id, schema_hash):
                if answer_hash == receipt.input_hash:
                    return receipt
                raise NotAwaitingInput("This question was already answered, differently.")
        if (question := job.input_request) and _names(
            question.status_id, question.schema_hashes, status_id, schema_hash
        ):
            raise NotAwaitingInput("The time to answer this question is over.")
        if job.state is JobState.AWAITING_INPUT:
            raise NotAwaitingInput(
                "The job waits for another input; read its status for the present question."
            )
        raise NotAwaitingInput(f"The job does not wait for input; it is {job.state}.")

    def _new_job(self, command: StartCommand) -> NewJob:
        identifier = command.identifier_from_purchaser
        runner_input: dict[str, Any] = {}
        if command.variant.free:  # any text that can be stored may identify the purchaser
            faults = tuple(content_faults(identifier, "/identifier_from_purchaser", nul=False))
        else:
            faults = _faults(check_purchaser_identifier, identifier or "")
        try:
            runner_input = validate_input(command.flow.input_schema, command.input_data)
        except InvalidInput as error:
            faults += error.errors
        if faults:
            raise InvalidInput(faults)
        fingerprint = hashlib.sha256(
            canonical(
                [
                    str(command.flow.uid),
                    command.variant.name,
                    identifier,
                    command.input_data,
                ]
            )
        ).hexdigest()
        # Without a header the purchaser's identifier makes a key of its own: it is meant to be new
        # for each purchase, so the same identifier with the same input is a repeated request.
        natural = fingerprint if identifier is not None else None
        return NewJob(
            id=uuid4(),
            command=command,
            runner_input=runner_input,
            input_hash=input_hash(identifier or "", command.input_data),
            key_scope=command.principal if command.idempotency_key else "",
            key=command.idempotency_key or natural,
            fingerprint=fingerprint,
            origin=tracing.here(),
        )

    async def _replay(self, holder: KeyRecord, fingerprint: str) -> Started:
        if holder.fingerprint != fingerprint:
            raise IdempotencyMismatch
        job = await self._repository.get(holder.job_id)
        if job is None or (job.payment is None and not job.free and job.state is JobState.FAILED):
            # Its key has just been released: the next request makes a new job.
            raise RequestInProgress(retry_after_s=LOOK_S)
        if job.state is JobState.CREATING:
            look_s = await self._repository.next_look_s(job.id)
            raise RequestInProgress(
                retry_after_s=USUAL_START_S if look_s is None else look_s + LOOK_S
            )
        return Started(job, replayed=True)

    async def _have_paid(self, new: NewJob) -> None:
        try:
            terms = terms_of(await self._gateway.create(self._order(new)))
        except (PaymentUnavailable, PaymentRejected, DeadlineExceeded) as error:
            # Certainly no payment: the job ends here, and the key may be used again.
            await self._abandon(new, error)
            raise
        except PaymentOutcomeUnknown:
            await self._look_soon(new)
            raise
        try:
            async with asyncio.timeout(ANSWER_S):
                await self._detached.finish(self._attach(new, terms), name=f"attach-{new.id}")
        except TimeoutError as error:  # it goes on without the client
            raise PaymentOutcomeUnknown(NOT_READ_BACK) from error

    async def _attach(self, new: NewJob, terms: PaymentTerms) -> None:
        """The payment exists: write it down, and do not take the first no for an answer."""
        try:
            with deadline.instead(RECORD_S):
                await self._attach_by_deadline(new, terms)
        except PaymentRejected as error:
            await self._abandon(new, error)
            raise

    async def _attach_by_deadline(self, new: NewJob, terms: PaymentTerms) -> None:
        while True:
            try:
                if await self._repository.attach(new.id, terms, "payment-requested"):
                    self._metrics.job_moved(JobState.CREATING, JobState.AWAITING_PAYMENT)
            except PaymentRejected:
                raise
            except (DependencyError, DeadlineExceeded) as error:
                left_s = deadline.remaining_s() or 0.0
                log.warning("payment_not_attached", job_id=str(new.id), code=error.code)
                if left_s < 2 * RECORD_PAUSE_S:
                    raise PaymentOutcomeUnknown from error
                await asyncio.sleep(RECORD_PAUSE_S)
            else:
                return

    async def _abandon(self, new: NewJob, why: TollgateError) -> None:
        """Where this fails too, the reconciler gives the intent up after its grace."""
        try:
            with deadline.instead(RECORD_S):
                if await self._repository.abandon(new.id, why.code, why.message):
                    self._metrics.job_moved(JobState.CREATING, JobState.FAILED)
        except (DependencyError, DeadlineExceeded) as error:
            log.warning("intent_not_abandoned", job_id=str(new.id), code=error.code)

    async def _look_soon(self, new: NewJob) -> None:
        try:
            with deadline.instead(RECORD_S):
                await self._repository.look_soon(new.id)
        except (DependencyError, DeadlineExceeded) as error:
            log.warning("intent_not_hastened", job_id=str(new.id), code=error.code)

    def _order(self, new: NewJob) -> PaymentOrder:
        now = datetime.now(UTC)
        variant, identifier = new.command.variant, new.command.identifier_from_purchaser
        if variant.agent_identifier is None or identifier is None:
            raise AssertionError("a paid variant has an agent, and its order an identifier")
        return PaymentOrder(
            job_id=new.id,
            agent_identifier=variant.agent_identifier,
            identifier_from_purchaser=identifier,
            input_hash=new.input_hash,
            pay_by=now + timedelta(seconds=self._payment.pay_within),
            submit_by=now + timedelta(seconds=self._payment.submit_within),
            requested_funds=tuple(Fund(f.amount, f.unit) for f in variant.requested_funds),
            payment_source_type=variant.payment_source_type,
            supported_payment_source_index=variant.supported_payment_source_index,
        )


def terms_of(payment: Payment) -> PaymentTerms:
    """The terms a purchaser is shown; raises PaymentRejected where the service left some out."""
    if not payment.payable or payment.pay_by_time_ms is None:
        raise PaymentRejected("The payment service made a payment that nobody can pay.")
    return PaymentTerms(
        payment_id=payment.id,
        blockchain_identifier=payment.blockchain_identifier,
        agent_identifier=payment.agent_identifier,
        seller_vkey=payment.seller_vkey,
        pay_by_time_ms=payment.pay_by_time_ms,
        submit_result_time_ms=payment.submit_result_time_ms,
        unlock_time_ms=payment.unlock_time_ms,
        external_dispute_unlock_time_ms=payment.external_dispute_unlock_time_ms,
        payment_source_type=payment.payment_source_type,
    )


def _names(
    question_id: UUID, hashes: frozenset[str], status_id: str | None, schema_hash: str | None
) -> bool:
    """Does the client mean this question? What it gives must match; it must give something."""
    if status_id is None and schema_hash is None:
        return False
    return (status_id is None or status_id == str(question_id)) and (
        schema_hash is None or schema_hash.lower() in hashes
    )


def _faults(check: Any, value: str) -> tuple[FieldError, ...]:
    try:
        check(value)
    except InvalidInput as error:
        return error.errors
    return ()
