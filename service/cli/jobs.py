"""``tollgate jobs show``."""

from __future__ import annotations

import argparse
import asyncio
from datetime import UTC, datetime
from uuid import UUID

from service.cli import context
from service.cli.terminal import moment, table
from service.cli.terminal import show as show_lines
from service.errors import UnknownJob
from service.jobs.models import Job, JobEvent
from service.jobs.repository import JobRepository
from service.settings import Settings, load

#: A result may be a book; its length is told instead of the rest.
RESULT_CHARACTERS = 200


def show(arguments: argparse.Namespace) -> int:
    """A job as the database knows it, and how it came there."""
    job, events = asyncio.run(_read(load().settings, arguments.id))
    fields = _fields(job)
    width = max(len(name) for name, _ in fields)
    show_lines(*(f"{name:{width}}  {value}" for name, value in fields), "")
    table(
        ("#", "TIME", "STATE", "CAUSE", "DETAIL"),
        ((str(e.seq), moment(e.created_at), e.state, e.cause, e.detail or "") for e in events),
    )
    return 0


async def _read(settings: Settings, job_id: UUID) -> tuple[Job, tuple[JobEvent, ...]]:
    async with context.database(settings) as database:
        repository = JobRepository(database, settings.jobs)
        job = await repository.get(job_id)
        if job is None:
            raise UnknownJob(f"There is no job {job_id}.")
        return job, await repository.events(job_id)


def _fields(job: Job) -> list[tuple[str, str]]:
    fields = [
        ("job", str(job.id)),
        ("flow", f"{job.flow_slug} ({job.variant})"),
        ("state", job.state.value),
        ("created", moment(job.created_at)),
        ("updated", moment(job.updated_at)),
        ("purchaser", job.identifier_from_purchaser or "-"),
        ("input hash", job.input_hash),
    ]
    if job.payment:
        fields += [
            ("blockchain id", _shortened(job.payment.blockchain_identifier)),
            ("pay by", _from_ms(job.payment.pay_by_time_ms)),
            ("submit by", _from_ms(job.payment.submit_result_time_ms)),
        ]
    if job.input_request:
        fields += [
            ("waits for", f"input to status {job.input_request.status_id}"),
            ("answer by", moment(job.input_request.expires_at)),
        ]
    if job.result is not None:
        fields += [("result", _shortened(job.result)), ("result hash", job.result_hash or "-")]
    if job.failure is not None:
        fields.append(("failure", job.failure))
    return fields


def _shortened(text: str) -> str:
    if len(text) <= RESULT_CHARACTERS:
        return text
    return f"{text[:RESULT_CHARACTERS]}... ({len(text)} characters)"


def _from_ms(time_ms: int) -> str:
    return moment(datetime.fromtimestamp(time_ms / 1000, UTC))
