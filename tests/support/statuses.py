"""Statuses, and a stand-in for the table they are read from, whose answers a test holds back."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

from service.jobs.models import JobState, Status

FLOW = uuid4()


def status_of(job_id: UUID, state: JobState = JobState.RUNNING, **changes: Any) -> Status:
    status = Status(
        job_id=job_id,
        flow_uid=FLOW,
        id=uuid4(),
        seq=1,
        state=state,
        input_schema=None,
        result="r" if state is JobState.COMPLETED else None,
        failure="f" if state is JobState.FAILED else None,
    )
    return replace(status, **changes)


class Table:
    """Jobs; each reading of them takes until ``let`` is set, and sees them as they are then."""

    def __init__(self) -> None:
        self.rows: dict[UUID, Status] = {}
        self.readings: list[list[UUID]] = []
        self.let = asyncio.Event()
        self.let.set()
        self.failing: Exception | None = None

    def add(self, state: JobState = JobState.RUNNING) -> Status:
        status = status_of(uuid4(), state)
        self.rows[status.job_id] = status
        return status

    def change(self, job_id: UUID, state: JobState = JobState.COMPLETED) -> Status:
        before = self.rows[job_id]
        self.rows[job_id] = after = status_of(job_id, state, seq=before.seq + 1)
        return after

    async def statuses(self, job_ids: Sequence[UUID]) -> dict[UUID, Status]:
        """As ``JobRepository.statuses``: what is true when it is sent, told when ``let``."""
        self.readings.append(list(job_ids))
        if self.failing is not None:
            raise self.failing
        found = {job_id: self.rows[job_id] for job_id in job_ids if job_id in self.rows}
        await self.let.wait()
        return found


async def turns(number: int = 10) -> None:
    """Let the loop go round: everything that can happen without waiting has happened."""
    for _ in range(number):
        await asyncio.sleep(0)
