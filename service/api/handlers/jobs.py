"""The sale: start a job, ask how it is, answer its question (MIP-003)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

from service import deadline
from service.api import answers, json_body, keys, parameters, schemas
from service.api.handlers.flows import resolve
from service.errors import FieldError, InvalidInput
from service.jobs.models import Job, JobState, StartCommand

if TYPE_CHECKING:
    from pydantic import BaseModel

REPLAYED = "Idempotent-Replayed"
#: Left of a request's time when a waiting status request is answered.
WAIT_RESERVE_S = 1.0
#: MIP-003's word for each state; ``creating`` is none of its.
_STATUS_NAMES: dict[JobState, schemas.StatusName] = {
    JobState.CREATING: "awaiting_payment",
    JobState.AWAITING_PAYMENT: "awaiting_payment",
    JobState.RUNNING: "running",
    JobState.AWAITING_INPUT: "awaiting_input",
    JobState.COMPLETED: "completed",
    JobState.FAILED: "failed",
}
_FINAL = frozenset({JobState.COMPLETED, JobState.FAILED})


async def start_job(request: web.Request) -> web.StreamResponse:
    key = parameters.idempotency_key(request.headers.getall(parameters.IDEMPOTENCY_KEY, ()))
    sent = schemas.parse(schemas.StartJob, await _body(request))
    flow, variant = await resolve(request, sent.flow)
    command = StartCommand(
        flow=flow,
        variant=variant,
        input_data=dict(sent.input_data),
        identifier_from_purchaser=sent.identifier_from_purchaser,
        idempotency_key=key,
        principal=request[keys.RECORD].client.owner,
    )
    started = await request.app[keys.JOBS].start(command)
    request[keys.RECORD].job = str(started.job.id)
    headers = {REPLAYED: "true"} if started.replayed else {}
    return answers.answer(started_view(started.job), headers=headers)


async def status(request: web.Request) -> web.StreamResponse:
    job_id = parameters.job_id(request.query.get("job_id"), where="job_id")
    wait_s = parameters.wait_s(request.query)
    flow, _ = await resolve(request)
    request[keys.RECORD].job = str(job_id)
    jobs = request.app[keys.JOBS]
    job = await jobs.get(job_id, flow_uid=flow.uid)
    if wait_s > 0 and job.state not in _FINAL and _has_seen(request, job):
        left_s = deadline.remaining_s()
        if left_s is not None:
            wait_s = min(wait_s, left_s - WAIT_RESERVE_S)
        job = await jobs.wait_for_change(
            job_id, flow_uid=flow.uid, seen=job.status_id, wait_s=max(0.0, wait_s)
        )
    return answers.conditional(request, status_view(job), cache="private, no-cache")


async def provide_input(request: web.Request) -> web.StreamResponse:
    sent = schemas.parse(schemas.ProvideInput, await _body(request))
    if not (sent.status_id or sent.input_schema_hash):
        fault = FieldError("/status_id", "Name the question: status_id or input_schema_hash.")
        raise InvalidInput((fault,))
    job_id = parameters.job_id(sent.job_id, where="/job_id")
    flow, _ = await resolve(request, sent.flow)
    request[keys.RECORD].job = str(job_id)
    provided = await request.app[keys.JOBS].provide_input(
        job_id,
        flow_uid=flow.uid,
        status_id=sent.status_id,
        input_schema_hash=sent.input_schema_hash,
        input_data=dict(sent.input_data),
    )
    return answers.answer(
        schemas.InputProvided(input_hash=provided.input_hash, signature=provided.signature)
    )


def started_view(job: Job) -> BaseModel:
    """The answer to start_job: the terms of the payment, or just the job where nothing is due."""
    terms = job.payment
    if terms is None:
        return schemas.StartedFree(
            id=str(job.id),
            job_id=str(job.id),
            status=_STATUS_NAMES[job.state],
            input_hash=job.input_hash,
            input_hash_camel=job.input_hash,
            identifier_echo=job.identifier_from_purchaser,
        )
    return schemas.StartedPaid(
        id=str(job.id),
        job_id=str(job.id),
        blockchain_identifier=terms.blockchain_identifier,
        pay_by_time=terms.pay_by_time_ms,
        submit_result_time=terms.submit_result_time_ms,
        unlock_time=terms.unlock_time_ms,
        external_dispute_unlock_time=terms.external_dispute_unlock_time_ms,
        agent_identifier=terms.agent_identifier,
        seller_vkey=terms.seller_vkey,
        identifier_echo=job.identifier_from_purchaser or "",
        input_hash=job.input_hash,
        input_hash_camel=job.input_hash,
        payment_source_type=terms.payment_source_type,
        supported_payment_source_index=terms.supported_payment_source_index,
    )


def status_view(job: Job) -> schemas.JobStatus:
    """The job as its purchaser sees it; question and result only in the state they belong to."""
    asking = job.state is JobState.AWAITING_INPUT and job.input_request is not None
    return schemas.JobStatus(
        id=str(job.status_id),
        job_id=str(job.id),
        status=_STATUS_NAMES[job.state],
        input_schema=job.input_request.schema if asking and job.input_request else None,
        result=job.result if job.state is JobState.COMPLETED else None,
        message=job.failure if job.state is JobState.FAILED else None,
    )


def _has_seen(request: web.Request, job: Job) -> bool:
    """Whether there is nothing to tell the client yet, so that it waits.

    It has the present status; or it asks for the first time and the job asks nothing of it.
    """
    known = request.query.get("status_id")
    if known is not None:
        return known == str(job.status_id)
    if request.if_none_match is None:
        return job.state is not JobState.AWAITING_INPUT
    return answers.is_known(request, answers.etag(answers.encode(status_view(job))))


async def _body(request: web.Request) -> dict[str, object]:
    return await json_body.read_object(
        request, limit_bytes=request.app[keys.SERVER].body_limit_bytes
    )
