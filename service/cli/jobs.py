"""``tollgate jobs show`` and ``tollgate jobs list``: all of a job but what its purchaser sent."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

from service.cli import context
from service.cli.terminal import moment, table
from service.cli.terminal import show as show_lines
from service.errors import UnknownJob
from service.jobs.inspection import Dossier, Inspection, Listed
from service.jobs.models import Job, JobEvent, JobState
from service.jobs.outbox import MOST_RECOVERIES
from service.jobs.repository import JobRepository
from service.settings import Settings, load

#: Identifiers are thousands of characters long; this much tells them apart.
SHOWN_CHARACTERS = 200
_SETTLEMENT = {
    "none": "no result to settle",
    "due": "the result has to be handed in",
    "submitted": "handed in; waits to be seen on chain",
    "settled": "the result was seen on chain",
    "lost": "the result did not reach the chain: the funds went elsewhere",
}


def show(arguments: argparse.Namespace) -> int:
    """A job as the database knows it, in words, and how it came there."""
    dossier, job, events = asyncio.run(_read(load().settings, arguments.id))
    fields = [*_about(dossier), *_payment(dossier), *_work(dossier, job), *_outcome(dossier)]
    width = max(len(name) for name, _ in fields)
    show_lines(*(f"{name:{width}}  {value}" for name, value in fields), "")
    table(
        ("#", "TIME", "STATE", "CAUSE", "DETAIL"),
        (
            (str(e.seq), moment(e.created_at), e.state, e.cause, _shortened(e.detail or ""))
            for e in events
        ),
    )
    return 0


def listing(arguments: argparse.Namespace) -> int:
    """The oldest jobs: those of some states, or (with none named) all that are not through."""
    states = [JobState(name) for name in arguments.state] or None
    jobs = asyncio.run(_oldest(load().settings, states, arguments.limit))
    if jobs:
        table(
            ("JOB", "FLOW", "STATE", "FOR", "PAYMENT", "SETTLEMENT", "ATTEMPTS", "NEXT"),
            (_line(job) for job in jobs),
        )
    return 0


async def _read(settings: Settings, job_id: UUID) -> tuple[Dossier, Job, tuple[JobEvent, ...]]:
    async with context.database(settings) as database:
        repository = JobRepository(database, settings.jobs)
        dossier = await Inspection(database).dossier(job_id)
        job = await repository.get(job_id)
        if dossier is None or job is None:
            raise UnknownJob(f"There is no job {job_id}.")
        return dossier, job, await repository.events(job_id)


async def _oldest(
    settings: Settings, states: Sequence[JobState] | None, most: int
) -> tuple[Listed, ...]:
    async with context.database(settings) as database:
        return await Inspection(database).oldest(states, most=most)


def _about(job: Dossier) -> list[tuple[str, str]]:
    return [
        ("job", str(job.id)),
        ("flow", f"{job.flow_slug} ({job.variant})"),
        ("state", job.state.value),
        ("created", moment(job.created_at)),
        ("updated", moment(job.updated_at)),
        ("client", job.principal),
        ("purchaser", job.identifier_from_purchaser or "-"),
        ("input hash", job.input_hash),
    ]


def _payment(job: Dossier) -> list[tuple[str, str]]:
    if job.free:
        return [("payment", "none: a free variant")]
    if job.blockchain_identifier is None:
        return [("payment", "no payment is known for this job")]
    fields = [
        ("payment", f"{job.payment_id} ({job.payment_source_type or 'first contract'})"),
        ("blockchain id", _shortened(job.blockchain_identifier)),
        ("on chain", job.on_chain_state or "nothing seen"),
    ]
    if job.pay_by_time_ms is not None and job.submit_result_time_ms is not None:
        fields += [
            ("pay by", _from_ms(job.pay_by_time_ms)),
            ("submit by", _from_ms(job.submit_result_time_ms)),
        ]
    if job.paid_at is not None:
        late = " (LATE: the job was over; give the funds back)" if job.paid_late else ""
        fields.append(("paid", moment(job.paid_at) + late))
    return fields


def _work(dossier: Dossier, job: Job) -> list[tuple[str, str]]:
    fields = []
    if dossier.run_attempts:
        lost = f", {dossier.lost_runs} lost with their worker" if dossier.lost_runs else ""
        fields.append(("runs", f"{dossier.run_attempts} begun{lost}"))
    if dossier.lease_owner is not None and dossier.lease_until is not None:
        held = dossier.lease_until > dossier.seen_at
        word = "held until" if held else "LOST: its lease ended"
        fields.append(("worker", f"{dossier.lease_owner}, {word} {moment(dossier.lease_until)}"))
    if dossier.state is JobState.RUNNING and dossier.run_deadline is not None:
        fields.append(("must end by", moment(dossier.run_deadline)))
    if job.input_request:
        fields += [
            ("waits for", f"input to status {job.input_request.status_id}"),
            ("answer by", moment(job.input_request.expires_at)),
        ]
    if _next_look(dossier):
        fields.append(("next look", moment(dossier.due_at)))
    return fields


def _outcome(job: Dossier) -> list[tuple[str, str]]:
    fields = []
    if job.result is not None:
        # Its length only: a result may well repeat what was put in.
        fields.append(("result", f"{len(job.result)} characters"))
        fields.append(("result hash", job.result_hash or "-"))
    if job.failure is not None:
        fields.append(("failure", f"{job.failure} [{job.failure_code}]"))
    if job.settlement == "none":
        return fields
    fields.append(("settlement", f"{job.settlement}: {_SETTLEMENT[job.settlement]}"))
    if job.settlement_attempts:
        fields.append(("looks", str(job.settlement_attempts)))
    if job.settlement_recoveries:
        stuck = job.settlement_recoveries >= MOST_RECOVERIES and job.settlement != "settled"
        hand = " (in vain: it needs a hand at the payment service)" if stuck else ""
        fields.append(("recoveries", f"{job.settlement_recoveries}{hand}"))
    return fields


def _line(job: Listed) -> tuple[str, ...]:
    return (
        str(job.id),
        f"{job.flow_slug}+{job.variant}",
        job.state.value,
        _duration(job.seen_at - job.updated_at),
        job.on_chain_state or "-",
        job.settlement if job.settlement != "none" else "-",
        str(job.run_attempts),
        moment(job.due_at) if _next_look(job) else "-",
    )


def _next_look(job: Dossier | Listed) -> bool:
    """Whether anything is still to be done, so that the time for it means something."""
    return job.settlement in ("due", "submitted") or job.state not in (
        JobState.COMPLETED,
        JobState.FAILED,
    )


def _duration(span: timedelta) -> str:
    seconds = max(0, round(span.total_seconds()))
    if seconds < 120:
        return f"{seconds} s"
    if seconds < 7200:
        return f"{seconds // 60} min"
    return f"{seconds // 3600} h" if seconds < 172_800 else f"{seconds // 86_400} d"


def _shortened(text: str) -> str:
    if len(text) <= SHOWN_CHARACTERS:
        return text
    return f"{text[:SHOWN_CHARACTERS]}... ({len(text)} characters)"


def _from_ms(time_ms: int) -> str:
    return moment(datetime.fromtimestamp(time_ms / 1000, UTC))
