"""What a job is, and which of its states may follow which."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from service.flows.models import Flow, Variant
from service.tracing import NOT_KNOWN, Origin


class JobState(StrEnum):
    """A job's state; MIP-003 shows all but ``creating``, which nobody has been answered yet."""

    CREATING = "creating"
    AWAITING_PAYMENT = "awaiting_payment"
    RUNNING = "running"
    AWAITING_INPUT = "awaiting_input"
    COMPLETED = "completed"
    FAILED = "failed"


#: Every change of state there is. The guards in queries.sql enforce it; a test compares the two.
TRANSITIONS: dict[JobState, frozenset[JobState]] = {
    JobState.CREATING: frozenset({JobState.AWAITING_PAYMENT, JobState.FAILED}),
    JobState.AWAITING_PAYMENT: frozenset({JobState.RUNNING, JobState.FAILED}),
    JobState.RUNNING: frozenset({JobState.AWAITING_INPUT, JobState.COMPLETED, JobState.FAILED}),
    JobState.AWAITING_INPUT: frozenset({JobState.RUNNING, JobState.FAILED}),
    JobState.COMPLETED: frozenset(),
    JobState.FAILED: frozenset(),
}


@dataclass(frozen=True, slots=True)
class PaymentTerms:
    """What the purchaser must pay, and by when; times in the payment service's own milliseconds."""

    payment_id: str
    blockchain_identifier: str
    agent_identifier: str
    seller_vkey: str
    pay_by_time_ms: int
    submit_result_time_ms: int
    unlock_time_ms: int
    external_dispute_unlock_time_ms: int
    payment_source_type: str | None = None
    supported_payment_source_index: int | None = None


@dataclass(frozen=True, slots=True)
class InputRequest:
    """A question to the purchaser, open while the job is awaiting_input."""

    status_id: UUID
    schema: dict[str, Any]
    schema_hashes: frozenset[str]
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Job:
    """A job as its purchaser may see it."""

    id: UUID
    flow_uid: UUID
    flow_slug: str
    variant: str
    free: bool
    state: JobState
    status_id: UUID
    identifier_from_purchaser: str | None
    input_hash: str
    payment: PaymentTerms | None
    result: str | None
    result_hash: str | None
    failure: str | None
    input_request: InputRequest | None
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class Status:
    """What a purchaser is told of a job; all of it stays as long as the status ``id`` does."""

    job_id: UUID
    flow_uid: UUID
    id: UUID
    #: Grows with each status of the job.
    seq: int
    state: JobState
    input_schema: dict[str, Any] | None
    result: str | None
    failure: str | None

    @property
    def final(self) -> bool:
        """Is it never followed by another?"""
        return not TRANSITIONS[self.state]


@dataclass(frozen=True, slots=True)
class StartCommand:
    """A start_job request, parsed: whose it is and what shall run."""

    flow: Flow
    variant: Variant
    input_data: dict[str, Any]
    identifier_from_purchaser: str | None
    idempotency_key: str | None
    #: Scopes the idempotency key: one client cannot read or block another's.
    principal: str


@dataclass(frozen=True, slots=True)
class Started:
    """The job a start_job request led to; ``replayed`` when an earlier request had made it."""

    job: Job
    replayed: bool


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job about to be recorded."""

    id: UUID
    command: StartCommand
    runner_input: dict[str, Any]
    input_hash: str
    key_scope: str
    key: str | None
    fingerprint: str
    origin: Origin = NOT_KNOWN


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """What an idempotency key stands for."""

    fingerprint: str
    job_id: UUID


@dataclass(frozen=True, slots=True)
class Claim:
    """A run this worker holds: written back only under the same owner and attempt (a fence)."""

    job_id: UUID
    owner: str
    attempt: int
    flow_uid: UUID
    variant: str
    free: bool
    identifier_from_purchaser: str | None
    runner_input: dict[str, Any]
    answers: tuple[tuple[str, dict[str, Any]], ...]
    run_deadline: datetime
    #: Claims before this one that ended with their lease instead of an outcome.
    lost_runs: int = 0
    #: Claims before this one that failed for a reason the runner called passing.
    failed_runs: int = 0
    origin: Origin = NOT_KNOWN


@dataclass(frozen=True, slots=True)
class OpenPayment:
    """A job as its payment concerns it."""

    job_id: UUID
    state: JobState
    blockchain_identifier: str | None
    created_at: datetime
    pay_by_time_ms: int | None
    submit_result_time_ms: int | None
    settlement: str
    #: When its funds were seen; None while they never were.
    paid_at: datetime | None
    origin: Origin = NOT_KNOWN


@dataclass(frozen=True, slots=True)
class Settlement:
    """A result that must reach the chain."""

    job_id: UUID
    blockchain_identifier: str
    result_hash: str
    submit_result_time_ms: int
    attempts: int
    #: How often the payment service was asked to lift an error state.
    recoveries: int
    origin: Origin = NOT_KNOWN


@dataclass(frozen=True, slots=True)
class JobEvent:
    """One entry of a job's history."""

    id: UUID
    seq: int
    state: str
    cause: str
    detail: str | None
    created_at: datetime


@dataclass(frozen=True, slots=True)
class ProvidedInput:
    """The receipt for an answer (MIP-003 provide_input)."""

    input_hash: str
    signature: str
