"""``tollgate jobs show`` and ``tollgate jobs list``: all of a job but what its purchaser sent."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from service.cli import context
from service.cli.terminal import moment, table
from service.cli.terminal import show as show_lines
from service.errors import UnknownJob
from service.jobs.described import facts, next_look, shortened
from service.jobs.inspection import Dossier, Inspection, Listed
from service.jobs.models import Job, JobEvent, JobState
from service.jobs.repository import JobRepository
from service.settings import Settings, load


def show(arguments: argparse.Namespace) -> int:
    """A job as the database knows it, in words, and how it came there."""
    dossier, job, events = asyncio.run(_read(load().settings, arguments.id))
    fields = facts(dossier, job)
    width = max(len(name) for name, _ in fields)
    show_lines(*(f"{name:{width}}  {value}" for name, value in fields), "")
    table(
        ("#", "TIME", "STATE", "CAUSE", "DETAIL"),
        (
            (str(e.seq), moment(e.created_at), e.state, e.cause, shortened(e.detail or ""))
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


def _line(job: Listed) -> tuple[str, ...]:
    return (
        str(job.id),
        f"{job.flow_slug}+{job.variant}",
        job.state.value,
        _duration(job.seen_at - job.updated_at),
        job.on_chain_state or "-",
        job.settlement if job.settlement != "none" else "-",
        str(job.run_attempts),
        moment(job.due_at) if next_look(job) else "-",
    )


def _duration(span: timedelta) -> str:
    seconds = max(0, round(span.total_seconds()))
    if seconds < 120:
        return f"{seconds} s"
    if seconds < 7200:
        return f"{seconds // 60} min"
    return f"{seconds // 3600} h" if seconds < 172_800 else f"{seconds // 86_400} d"
