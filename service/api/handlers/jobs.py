"""The sale: start a job, ask how it is, answer its question (MIP-003)."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING
from uuid import UUID

from aiohttp import web

from service import deadline
from service.api import answers, json_body, keys, parameters, schemas
from service.api.handlers.flows import resolve
from service.api.rendered import Rendered, start_of
from service.errors import DatabaseUnavailable, FieldError, InvalidInput
from service.jobs.kept import Shown
from service.jobs.models import Job, JobState, StartCommand, Status

if TYPE_CHECKING:
    from pydantic import BaseModel

REPLAYED = "Idempotent-Replayed"
#: Left of a request's time when a waiting status request is answered.
WAIT_RESERVE_S = 1.0
#: A client may keep what it was told of its job, and asks before it uses it again.
CACHE = "private, no-cache"
_START = start_of(200, "OK", [("Cache-Control", CACHE)])
#: MIP-003's word for each state; ``creating`` is none of its.
_STATUS_NAMES: dict[JobState, schemas.StatusName] = {
    JobState.CREATING: "awaiting_payment",
    JobState.AWAITING_PAYMENT: "awaiting_payment",
    JobState.RUNNING: "running",
    JobState.AWAITING_INPUT: "awaiting_input",
    JobState.COMPLETED: "completed",
    JobState.FAILED: "failed",
}


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
    statuses = request.app[keys.STATUSES]
    shown = statuses.final(job_id, flow_uid=flow.uid)
    if shown is None:
        try:
            if wait_s > 0:
                found = await _waited_for(request, job_id, flow.uid, wait_s)
            else:
                found = await statuses.read(job_id, flow_uid=flow.uid)
        except DatabaseUnavailable:
            shown = statuses.final(job_id, flow_uid=flow.uid, doubted=True)
            if shown is None:
                raise
        else:
            shown = shown_of(found)
            statuses.keep(found, shown)
    return _told(request, shown)


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


def status_view(status: Status) -> schemas.JobStatus:
    """The job as its purchaser sees it; question and result only in the state they belong to."""
    return schemas.JobStatus(
        id=str(status.id),
        job_id=str(status.job_id),
        status=_STATUS_NAMES[status.state],
        input_schema=status.input_schema,
        result=status.result,
        message=status.failure,
    )


def shown_of(status: Status) -> Shown:
    body = answers.encode(status_view(status))
    return Shown(status.flow_uid, body, answers.etag(body))


async def _waited_for(request: web.Request, job_id: UUID, flow_uid: UUID, wait_s: float) -> Status:
    """The status as soon as it is news to the client, or the present one when time is over."""
    statuses = request.app[keys.STATUSES]
    with statuses.watch(job_id) as watch:
        found = await statuses.read(job_id, flow_uid=flow_uid)
        if found.final or not _has_seen(request, found):
            return found
        left_s = deadline.remaining_s()
        if left_s is not None:
            wait_s = min(wait_s, left_s - WAIT_RESERVE_S)
        return await statuses.change(watch, found, wait_s=wait_s, gone=partial(_gone, request))


def _gone(request: web.Request) -> bool:
    """Has the client closed the connection? aiohttp tells a handler only if it cancels it."""
    transport = request.transport
    return transport is None or transport.is_closing()


def _has_seen(request: web.Request, status: Status) -> bool:
    """Whether there is nothing to tell the client yet, so that it waits.

    It has the present status; or it asks for the first time and the job asks nothing of it.
    """
    known = request.query.get("status_id")
    if known is not None:
        return known == str(status.id)
    if request.if_none_match is None:
        return status.state is not JobState.AWAITING_INPUT
    return answers.is_known(request, shown_of(status).tag)


def _told(request: web.Request, shown: Shown) -> web.Response:
    if request.app[keys.SERVER].fast_answers and not answers.is_known(request, shown.tag):
        start = f"{_START}ETag: {shown.tag}\r\nContent-Type: application/json\r\n"
        return Rendered(200, start, shown.body)
    return answers.conditional(request, shown.body, cache=CACHE)


async def _body(request: web.Request) -> dict[str, object]:
    return await json_body.read_object(
        request, limit_bytes=request.app[keys.SERVER].body_limit_bytes
    )
