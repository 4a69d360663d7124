"""Rows of the jobs table as the values of ``models``."""

from __future__ import annotations

from service.database import Row
from service.jobs.models import InputRequest, Job, JobState, OpenPayment, PaymentTerms, Status
from service.tracing import Origin


def open_payment(row: Row) -> OpenPayment:
    return OpenPayment(
        job_id=row["id"],
        state=JobState(row["state"]),
        blockchain_identifier=row["blockchain_identifier"],
        created_at=row["created_at"],
        pay_by_time_ms=row["pay_by_time_ms"],
        submit_result_time_ms=row["submit_result_time_ms"],
        settlement=row["settlement"],
        paid_at=row["paid_at"],
        origin=origin(row),
    )


def origin(row: Row) -> Origin:
    return Origin(row["request_id"], row["traceparent"])


def job(row: Row) -> Job:
    terms = None
    if row["blockchain_identifier"] is not None:
        terms = PaymentTerms(**{name: row[name] for name in PaymentTerms.__slots__})
    question = None
    if row["input_schema"] is not None:
        question = InputRequest(
            status_id=row["status_id"],
            schema=row["input_schema"],
            schema_hashes=frozenset(row["schema_hashes"]),
            expires_at=row["input_expires_at"],
        )
    return Job(
        id=row["id"],
        flow_uid=row["flow_uid"],
        flow_slug=row["flow_slug"],
        variant=row["variant"],
        free=row["free"],
        state=JobState(row["state"]),
        status_id=row["status_id"],
        identifier_from_purchaser=row["identifier_from_purchaser"],
        input_hash=row["input_hash"],
        payment=terms,
        result=row["result"],
        result_hash=row["result_hash"],
        failure=row["failure"],
        input_request=question,
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )


def status(row: Row) -> Status:
    return Status(
        job_id=row["id"],
        flow_uid=row["flow_uid"],
        id=row["status_id"],
        seq=row["seq"],
        state=JobState(row["state"]),
        input_schema=row["input_schema"],
        result=row["result"],
        failure=row["failure"],
    )
