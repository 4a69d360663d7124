"""The gate in front of the reads of statuses: who asks while one is on its way goes with the next.

There is no timer. An idle gate reads at once; a busy one collects, and asks for all that has come
meanwhile in one query, each job once however many want it. So a worker's reads of statuses cost
PostgreSQL a connection or two, whether 64 clients poll or 6,400.

Guarantees. A request is answered from a read that was sent after it came, never from one that was
already on its way: it sees every change that was committed before it, its client's own included,
by whichever worker. Whoever leaves takes nothing from the others. Every read ends within
``LIMIT_S`` of the first request it is for, so that nobody waits much longer for an answer.
"""

from __future__ import annotations

import asyncio
import copy
import time
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context
from itertools import islice
from typing import cast
from uuid import UUID

import structlog

from service import deadline
from service.errors import DeadlineExceeded, QueryTimeout, TollgateError
from service.jobs.models import Status
from service.tasks import end

log = structlog.get_logger()

#: How long a request waits for its read, what was on its way before included.
LIMIT_S = 2.0
#: What a read gets at least, though the first it is for has waited so long already.
LEAST_S = 0.5
#: The database gives up by the deadline, and says why; this is for when it does not.
NET_S = 0.25
#: Jobs of one query: each that is completed may bring a result of a megabyte.
MOST_JOBS = 100
#: Reads at once; a further one is begun only when the last is so old that it is slow, or lost.
MOST_READS = 4
SLOW_S = 0.05

_Load = Callable[[Sequence[UUID]], Awaitable[dict[UUID, Status]]]
Told = asyncio.Future["Status | None"]


class StatusReads:
    """``ask`` for the status of a job."""

    def __init__(self, load: _Load, *, on_query: Callable[[], None] = lambda: None) -> None:
        self._load = load
        self._on_query = on_query
        self._waiting: dict[UUID, _Asked] = {}
        self._reading: set[asyncio.Task[None]] = set()
        self._last_s = 0.0

    def ask(self, job_id: UUID) -> Told:
        """Its status to come; None in its place: there is no such job."""
        now_s = time.monotonic()
        asked = self._waiting.get(job_id)
        if asked is None:
            asked = self._waiting[job_id] = _Asked(now_s)
        told: Told = asyncio.get_running_loop().create_future()
        asked.futures.append(told)
        slow = now_s - self._last_s > SLOW_S and len(self._reading) < MOST_READS
        if slow or not self._reading:
            self._begin(now_s)
        return told

    def is_asked(self, job_id: UUID) -> bool:
        """Would who asks for it now share a read with somebody else?"""
        return job_id in self._waiting

    async def close(self) -> None:
        """End the reads on their way; who waits for them is cancelled."""
        await end(*self._reading)
        for asked in self._waiting.values():
            asked.cancel()
        self._waiting.clear()

    def _begin(self, now_s: float) -> None:
        self._last_s = now_s
        # An empty context: the read belongs to no request, nor does its deadline.
        reading = asyncio.get_running_loop().create_task(self._read_all(), context=Context())
        self._reading.add(reading)
        reading.add_done_callback(self._reading.discard)

    async def _read_all(self) -> None:
        try:
            while batch := self._next_batch():
                self._last_s = now_s = time.monotonic()
                waited_s = now_s - next(iter(batch.values())).since_s
                try:
                    await self._read(batch, max(LEAST_S, LIMIT_S - waited_s))
                finally:
                    for asked in batch.values():
                        asked.cancel()  # whoever was told nothing: this worker closes
        finally:
            # In the step in which nobody was found waiting: who comes now begins another read.
            self._reading.discard(cast(asyncio.Task[None], asyncio.current_task()))

    def _next_batch(self) -> dict[UUID, _Asked]:
        """The jobs asked for longest; none that nobody waits for any more."""
        batch: dict[UUID, _Asked] = {}
        while self._waiting and not batch:
            for job_id in list(islice(self._waiting, MOST_JOBS)):
                asked = self._waiting.pop(job_id)
                if not all(told.done() for told in asked.futures):
                    batch[job_id] = asked
        return batch

    async def _read(self, batch: dict[UUID, _Asked], left_s: float) -> None:
        self._on_query()
        try:
            with deadline.instead(left_s):
                async with asyncio.timeout(left_s + NET_S):
                    found = await self._load(list(batch))
        except (TimeoutError, DeadlineExceeded) as error:
            _fail(batch, QueryTimeout(), error)
        except TollgateError as error:
            _fail(batch, error, error.__cause__)
        except Exception as error:
            log.exception("status_read_crashed")
            _fail(batch, TollgateError(), error)
        else:
            for job_id, asked in batch.items():
                asked.tell(found.get(job_id))

    def __repr__(self) -> str:
        return f"<StatusReads waiting={len(self._waiting)} reading={len(self._reading)}>"


class _Asked:
    """Those who ask for one job, and since when."""

    __slots__ = ("futures", "since_s")

    def __init__(self, since_s: float) -> None:
        self.since_s = since_s
        self.futures: list[Told] = []

    def tell(self, status: Status | None) -> None:
        for told in self.futures:
            if not told.done():
                told.set_result(status)

    def cancel(self) -> None:
        for told in self.futures:
            told.cancel()


def _fail(batch: dict[UUID, _Asked], error: TollgateError, cause: BaseException | None) -> None:
    for asked in batch.values():
        for told in asked.futures:
            if not told.done():
                own = copy.copy(error)  # a traceback belongs to one raise
                own.__cause__ = cause
                told.set_exception(own)
