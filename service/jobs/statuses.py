"""What is told of jobs: read together, waited for, and kept once it is final."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING
from uuid import UUID

import structlog

from service.errors import UnknownJob
from service.jobs.kept import KeptAnswers, Shown
from service.jobs.models import Status
from service.jobs.reads import StatusReads
from service.jobs.repository import JobRepository
from service.jobs.waiting import Waiting, Watch

if TYPE_CHECKING:
    from service.metrics.status import StatusCounts, WaitEnd

log = structlog.get_logger()

#: The database's channel for changes; a message is a job's id and, unless it was deleted, its
#: status id (migration 0004).
CHANNEL = "tollgate_jobs"


class Statuses:
    """``most_waiting``: so many clients may wait at once; more are told at once what is known."""

    def __init__(
        self, repository: JobRepository, *, counts: StatusCounts, most_waiting: int
    ) -> None:
        self._kept = KeptAnswers()
        self._counts = counts
        self._reads = StatusReads(repository.statuses, on_query=counts.queried)
        self._waiting = Waiting(self._reads.ask, most=most_waiting)

    def final(self, job_id: UUID, *, flow_uid: UUID, doubted: bool = False) -> Shown | None:
        """What was answered about this job of this flow, if it has ended; raises UnknownJob.

        ``doubted``: even if news of it may have been missed, for when nothing better can be had.
        """
        shown = self._kept.get(job_id, doubted=doubted)
        if shown is None:
            return None
        self._counts.answered("cache")
        if shown.flow_uid != flow_uid:
            raise UnknownJob
        return shown

    def keep(self, status: Status, shown: Shown) -> None:
        """This is answered from now on, if the job has ended."""
        if status.final:
            self._kept.put(status.job_id, shown)

    async def read(self, job_id: UUID, *, flow_uid: UUID) -> Status:
        """The present status of a job of this flow; raises UnknownJob, and as a query does."""
        self._counts.answered("coalesced" if self._reads.is_asked(job_id) else "database")
        status = await self._reads.ask(job_id)
        if status is None or status.flow_uid != flow_uid:
            raise UnknownJob
        return status

    def watch(self, job_id: UUID) -> Watch:
        """To be entered before the status is read that ``change`` is to follow."""
        return self._waiting.watch(job_id)

    async def change(
        self, watch: Watch, seen: Status, *, wait_s: float, gone: Callable[[], bool]
    ) -> Status:
        """The status after ``seen``; the present one when ``wait_s`` is over or nobody may wait.

        ``gone``: has the client left? Then the present task is cancelled.
        """
        outcome = self._refusal(wait_s)
        if outcome is not None:
            self._counts.waited(outcome)
            return seen
        outcome = "left"
        self._counts.waiting += 1
        try:
            status = await watch.change(seen, wait_s=wait_s, gone=gone)
            outcome = "changed" if status and status.id != seen.id else "unchanged"
        finally:
            self._counts.waiting -= 1
            self._counts.waited(outcome)
        return status or await self.read(seen.job_id, flow_uid=seen.flow_uid)

    def _refusal(self, wait_s: float) -> WaitEnd | None:
        """Why nobody waits now; refused is the waiting, not the answer."""
        if self._waiting.released:
            return "leaving"
        if self._waiting.full:
            return "full"
        return None if wait_s > 0 else "unchanged"

    # --- what this worker is told -------------------------------------------------------------

    def told(self, message: str) -> None:
        """A message of the database, on ``CHANNEL``."""
        job, _, status = message.partition(" ")
        try:
            job_id, status_id = UUID(job), UUID(status) if status else None
        except ValueError:
            log.warning("job_message_unreadable", size=len(message))
            return
        self._kept.drop(job_id)
        self._waiting.told(job_id, status_id)

    def gap(self) -> None:
        """Messages may have been missed."""
        self._kept.doubt()
        self._waiting.gap()

    def release(self) -> None:
        """This worker is about to leave: whoever waits is answered now."""
        self._waiting.release()

    async def close(self) -> None:
        self.release()
        await self._reads.close()
