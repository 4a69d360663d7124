"""Jobs as operators and dashboards see them: one in all its parts, the oldest, and how many.

Nothing here shows what a purchaser put in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar
from uuid import UUID

from service.database import Database, Row
from service.jobs.models import JobState
from service.jobs.outbox import Outlook
from service.jobs.repository import SQL, JobRepository

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Dossier:
    """One job, everything but its input; times as the database has them."""

    id: UUID
    flow_slug: str
    variant: str
    free: bool
    state: JobState
    principal: str
    identifier_from_purchaser: str | None
    input_hash: str
    payment_id: str | None
    blockchain_identifier: str | None
    payment_source_type: str | None
    pay_by_time_ms: int | None
    submit_result_time_ms: int | None
    on_chain_state: str | None
    paid_at: datetime | None
    result: str | None
    result_hash: str | None
    failure_code: str | None
    failure: str | None
    settlement: str
    settlement_attempts: int
    settlement_recoveries: int
    lease_owner: str | None
    lease_until: datetime | None
    due_at: datetime
    run_attempts: int
    lost_runs: int
    failed_runs: int
    run_deadline: datetime | None
    created_at: datetime
    updated_at: datetime
    completed_at: datetime | None
    #: The database's clock when this was read.
    seen_at: datetime

    @property
    def paid_late(self) -> bool:
        """The purchaser's funds came when the job was over: they must be given back."""
        return (
            self.state is JobState.FAILED
            and self.paid_at is not None
            and self.completed_at is not None
            and self.paid_at >= self.completed_at
        )


@dataclass(frozen=True, slots=True)
class Listed:
    """One line of a list of jobs."""

    id: UUID
    flow_slug: str
    variant: str
    state: JobState
    settlement: str
    on_chain_state: str | None
    failure_code: str | None
    lease_owner: str | None
    due_at: datetime
    run_attempts: int
    created_at: datetime
    updated_at: datetime
    seen_at: datetime


@dataclass(frozen=True, slots=True)
class Crowd:
    """How many unfinished jobs are in one state, and since when the oldest of them."""

    state: JobState
    jobs: int
    oldest_s: float


@dataclass(frozen=True, slots=True)
class Census:
    """What there is to do, and what only a person can put right; for gauges."""

    open: tuple[Crowd, ...]
    settlement: Outlook
    #: Funds that came for jobs that were over.
    late_paid: int
    #: Results whose funds went elsewhere.
    lost: int


class Inspection:
    def __init__(self, database: Database) -> None:
        self._db = database

    async def dossier(self, job_id: UUID) -> Dossier | None:
        row = await self._db.fetch_one(SQL.dossier, {"job_id": job_id})
        return None if row is None else _read(Dossier, row)

    async def oldest(self, states: Sequence[JobState] | None, *, most: int) -> tuple[Listed, ...]:
        """Jobs in these states, or (None) all that are not through; oldest first."""
        params = {"states": None if states is None else [str(s) for s in states], "most": most}
        rows = await self._db.fetch(SQL.oldest_jobs, params)
        return tuple(_read(Listed, row) for row in rows)


async def census(database: Database, repository: JobRepository) -> Census:
    """Cheap enough for every minute: it reads unfinished jobs only."""
    crowds = await database.fetch(SQL.open_jobs)
    ends = await database.fetch_one(SQL.unhappy_ends)
    return Census(
        open=tuple(Crowd(JobState(c["state"]), c["jobs"], c["oldest_s"]) for c in crowds),
        settlement=await repository.outbox.outlook(),
        late_paid=ends["late_paid"] if ends else 0,
        lost=ends["lost"] if ends else 0,
    )


def _read(kind: type[Value], row: Row) -> Value:
    return kind(**{**row, "state": JobState(row["state"])})
