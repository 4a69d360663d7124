"""Who waits for a change of which job: told by the database, and looked after if it is silent.

Waiting costs a place in a table: no connection, no timer, no task beside the request's own. One
sweep, only while somebody waits, ends what is over and lets go of clients that have left. A told
change leads to one look at the job for all who wait for it. As a message may be lost, every job
waited for is looked at every ``LOOK_S`` anyway, and all of them, spread over ``GAP_S``, after the
listener had lost its connection.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from uuid import UUID

from service.errors import UnknownJob
from service.jobs.models import Status
from service.jobs.reads import Told

#: Between two sweeps: waiting ends so much later, and a client that has left is noticed.
SWEEP_S = 0.25
#: Between two looks at a job nothing was told of, with jitter; a lost message costs so much.
LOOK_S = 5.0
JITTER = 0.2
#: Over this time all jobs are looked at when messages may have been lost.
GAP_S = 1.0
#: What was seen longer ago than this is not told any more: the looks have failed.
OLD_S = 2 * LOOK_S
#: No status has this id: one that may have been told, and was not heard.
_SOMETHING = UUID(int=0)


class Waiting:
    """``watch`` a job, then wait for its change."""

    def __init__(self, ask: Callable[[UUID], Told], *, most: int) -> None:
        self._ask = ask
        self._most = most
        self._watched: dict[UUID, _Watched] = {}
        self._released = False
        self._timer: asyncio.TimerHandle | None = None
        #: Clients that wait at this moment.
        self.clients = 0

    def watch(self, job_id: UUID) -> Watch:
        """To be entered before the job is read, so that no change is missed in between."""
        return Watch(self, job_id)

    @property
    def full(self) -> bool:
        return self.clients >= self._most

    @property
    def released(self) -> bool:
        return self._released

    def told(self, job_id: UUID, status_id: UUID | None) -> None:
        """The job has this status now; None: it is no more."""
        if (watched := self._watched.get(job_id)) is not None:
            watched.told = status_id
            if any(waiter.seen.id != status_id for waiter in watched.waiters):
                self._look(watched)

    def gap(self) -> None:
        """Changes may have gone untold."""
        now_s = time.monotonic()
        for watched in self._watched.values():
            watched.told = _SOMETHING
            watched.look_at_s = now_s + random.uniform(0, GAP_S)  # noqa: S311

    def release(self) -> None:
        """Tell all who wait what is known; nobody waits here any more."""
        self._released = True
        for watched in self._watched.values():
            for waiter in watched.waiters:
                waiter.end(watched)

    def enter(self, job_id: UUID) -> _Watched:
        watched = self._watched.get(job_id)
        if watched is None:
            watched = self._watched[job_id] = _Watched(job_id)
        watched.watches += 1
        return watched

    def leave(self, watched: _Watched) -> None:
        watched.watches -= 1
        if not watched.watches:
            del self._watched[watched.job_id]

    def begin(self, watched: _Watched, waiter: _Waiter) -> None:
        watched.waiters.add(waiter)
        self.clients += 1
        watched.saw(waiter.seen)
        if watched.told not in (None, waiter.seen.id):
            self._look(watched)  # told between the reading of the status and now
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(SWEEP_S, self._sweep)

    def finish(self, watched: _Watched, waiter: _Waiter) -> None:
        watched.waiters.discard(waiter)
        self.clients -= 1

    def _sweep(self) -> None:
        now_s = time.monotonic()
        for watched in self._watched.values():
            for waiter in watched.waiters:
                if waiter.gone():
                    waiter.task.cancel()
                elif waiter.end_s <= now_s:
                    waiter.end(watched)
            if watched.waiters and watched.look_at_s <= now_s:
                self._look(watched)
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(SWEEP_S, self._sweep) if self.clients else None

    def _look(self, watched: _Watched) -> None:
        """Read the job for all who wait for it; their waiting ends if it has changed."""
        watched.told = None  # who comes later is compared with what is found
        watched.look_again_later()
        self._ask(watched.job_id).add_done_callback(watched.looked)

    def __repr__(self) -> str:
        state = "released" if self._released else "open"
        return f"<Waiting {state}: {self.clients} clients, {len(self._watched)} jobs>"


class Watch:
    """One request's interest in a job, as a context."""

    __slots__ = ("_job_id", "_waiting", "_watched")

    def __init__(self, waiting: Waiting, job_id: UUID) -> None:
        self._waiting = waiting
        self._job_id = job_id

    def __enter__(self) -> Watch:
        self._watched = self._waiting.enter(self._job_id)
        return self

    def __exit__(self, *_: object) -> None:
        self._waiting.leave(self._watched)

    async def change(
        self, seen: Status, *, wait_s: float, gone: Callable[[], bool]
    ) -> Status | None:
        """The status after ``seen``, or the present one when ``wait_s`` is over.

        None in its place: the looks have failed, so nobody knows. Cancelled when the client is
        ``gone``. Raises UnknownJob.
        """
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("only a task can wait")
        waiter = _Waiter(seen, time.monotonic() + wait_s, gone, task)
        self._waiting.begin(self._watched, waiter)
        try:
            return await waiter.told
        finally:
            self._waiting.finish(self._watched, waiter)


class _Waiter:
    __slots__ = ("end_s", "gone", "seen", "task", "told")

    def __init__(
        self, seen: Status, end_s: float, gone: Callable[[], bool], task: asyncio.Task[object]
    ) -> None:
        self.seen = seen
        self.end_s = end_s
        self.gone = gone
        self.task = task
        self.told: Told = asyncio.get_running_loop().create_future()

    def end(self, watched: _Watched) -> None:
        """Tell it what is known."""
        if not self.told.done():
            self.told.set_result(watched.known())


class _Watched:
    """A job that requests are interested in; ``waiters`` are those that wait already."""

    __slots__ = ("job_id", "latest", "look_at_s", "seen_s", "told", "waiters", "watches")

    def __init__(self, job_id: UUID) -> None:
        self.job_id = job_id
        self.watches = 0
        self.waiters: set[_Waiter] = set()
        self.told: UUID | None = None
        self.latest: Status | None = None
        self.seen_s = 0.0
        self.look_at_s = 0.0

    def saw(self, status: Status) -> None:
        """This has been read of the job: whoever knows it only as it was before is told."""
        if self.latest is None or status.seq >= self.latest.seq:
            self.latest = status
            self.seen_s = time.monotonic()
            self.look_again_later()
        for waiter in self.waiters:
            if waiter.seen.id != self.latest.id and not waiter.told.done():
                waiter.told.set_result(self.latest)

    def known(self) -> Status | None:
        """The present status, as far as it is known."""
        return None if time.monotonic() - self.seen_s > OLD_S else self.latest

    def look_again_later(self) -> None:
        pause_s = LOOK_S * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311
        self.look_at_s = time.monotonic() + pause_s

    def looked(self, look: Told) -> None:
        """A look has ended; if it failed, the next one will tell."""
        if look.cancelled() or look.exception() is not None:
            return
        status = look.result()
        if status is not None:
            self.saw(status)
            return
        for waiter in self.waiters:
            if not waiter.told.done():
                waiter.told.set_exception(UnknownJob())
