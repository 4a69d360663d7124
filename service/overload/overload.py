"""Turns requests away while this worker has more to do than it can, so that the others are served.

What is scarce in a worker is the one thread its event loop runs on, and requests queue for it
before any line of ours sees them: in their sockets, and among the tasks that are ready. So it is
that wait which is measured (``queue_delay``), and a limit on requests in flight that keeps it short
(``limit``). The other scarce thing all share are database connections: the same rule, by the wait
for one, for the kinds that need them; what is answered from memory does not suffer with them.
Response times would not do: those of ``start_job`` are the payment service's, those of a waiting
``status`` are asked for. Who waits for others by design is not counted in flight (``aside``).

While there is a limit, kinds of requests may fill different parts of it (``models``), and clients
that have had more than the average only part of that (``crowd``). Refusals are held back a little
(``held``).
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Protocol

import structlog

from service.overload.bound import Bound
from service.overload.crowd import Crowd
from service.overload.held import Held
from service.overload.limit import ALARM
from service.overload.models import OF_DATABASE, OverloadStatus, Priority, Short
from service.overload.queue_delay import QueueDelay
from service.settings import OverloadSettings

#: Samples are looked at together after this long.
LOOK_S = 0.1
#: A statement takes longer than a turn of the loop: so may the wait for a connection.
CONNECTION_DELAYS = 4.0
#: Looks until half of what clients have had is forgotten.
FADE_LOOKS = 5
#: Without a request turned away for this long, the overload is over.
QUIET_S = 5.0
#: Clients are told to come again within this time, spread evenly, the longer the more there are.
SOONEST_S, LATEST_S = 2.0, 10.0

log = structlog.get_logger()


class Observer(Protocol):
    def delayed(self, seconds: float) -> None: ...
    def shed(self, priority: str, reason: str) -> None: ...


class Overload:
    """``enter``, and ``leave`` whoever was let in; ``hold`` whoever was not."""

    def __init__(
        self,
        settings: OverloadSettings,
        observer: Observer,
        *,
        aside: Mapping[Priority, Callable[[], int]] = MappingProxyType({}),
        connection_delay_s: Callable[[], float] = lambda: 0.0,
    ) -> None:
        target_s, least = settings.queue_delay, settings.least_requests
        self._enabled = settings.enabled
        self._observer = observer
        #: Of some kinds, how many wait for others by design.
        self._aside = aside
        self._connection_delay_s = connection_delay_s
        self._worker = Bound("worker", tuple(Priority), target_s=target_s, least=least)
        self._database = Bound(
            "database", OF_DATABASE, target_s=target_s * CONNECTION_DELAYS, least=least
        )
        self._queue_delay = QueueDelay(self.sample)
        self._crowd = Crowd()
        self._held = Held()
        self._of_kind = [0] * len(Priority)
        self._in_flight = 0
        #: Below so many in flight all are let in without a question.
        self._at_ease = settings.least_requests
        self._least = settings.least_requests
        self._alarm_s = target_s * ALARM
        #: Those that have a limit now.
        self._limiting: tuple[Bound, ...] = ()
        self._samples = 0
        self._look_s = 0.0
        self._looks = 0
        self._entered = self._turned_away = 0
        self._spread_s = SOONEST_S
        self._shedding_since_s: float | None = None
        self._last_shed_s = 0.0
        self._shed = 0

    # --- on the way of a request ----------------------------------------------------------------

    def enter(self, priority: Priority | None, principal: str) -> Short | None:
        """None: it may come in, and is to ``leave`` when it goes. Else what is too little.

        What has no priority is never turned away.
        """
        if priority is None:
            return None
        if self._in_flight >= self._at_ease and (short := self._short(priority, principal)):
            return short
        self._in_flight += 1
        self._of_kind[priority] += 1
        return None

    def leave(self, priority: Priority | None) -> None:
        if priority is None:
            return
        self._in_flight -= 1
        self._of_kind[priority] -= 1

    async def hold(self) -> None:
        """Whoever was not let in waits here before it is told so."""
        await self._held.wait()

    def retry_after_s(self) -> int:
        """When to come again: different for each, so that they do not all come at once."""
        return 1 + int(random.random() * self._spread_s)  # noqa: S311 - spread, no secret

    def _short(self, priority: Priority, principal: str) -> Short | None:
        if not self._limiting:
            self._suspect()
        if not self._limiting:
            return None
        greedy = self._crowd.above_average(principal)
        for bound in self._limiting:
            rooms = bound.rooms[priority] if bound.rooms is not None else None
            if rooms is None:
                continue
            here = self._here(bound)
            room, greedy_room = rooms
            if here >= room or (greedy and here >= greedy_room):
                self._crowd.meet(principal)
                bound.refused += 1
                self._turned_away += 1
                reason = bound.short if here >= room else "share"
                self._observer.shed(priority.name.lower(), reason)
                return bound.short
        self._crowd.note(principal)
        self._entered += 1
        return None

    def _suspect(self) -> None:
        """Far more than usual are in flight: have they come while the loop had no time to look?"""
        overdue = self._queue_delay.overdue_s() > self._alarm_s
        if overdue and self._worker.alarm(self._here(self._worker)):
            self._limiting = (self._worker,)
            self._at_ease = 0

    def _here(self, bound: Bound) -> int:
        """In flight of its kinds, but for who waits for others by design."""
        aside = [waiting() for kind, waiting in self._aside.items() if kind in bound.kinds]
        return bound.in_flight(self._of_kind) - sum(aside)

    # --- beside it ------------------------------------------------------------------------------

    def start(self) -> None:
        if self._enabled:
            self._held.start()
            self._queue_delay.start()

    def stop(self) -> None:
        """From now on all are let in, and who is held goes."""
        self._queue_delay.stop()
        self._held.stop()
        self._worker.lift()
        self._database.lift()
        self._limiting, self._at_ease = (), sys.maxsize

    def status(self) -> OverloadStatus:
        return OverloadStatus(
            in_flight=self._in_flight,
            limit=self._worker.limit,
            queue_delay_ms=round(self._worker.delay_s * 1000, 1),
            database_limit=self._database.limit,
            connection_delay_ms=round(self._database.delay_s * 1000, 1),
            shedding=self._shedding_since_s is not None,
        )

    def sample(self, delay_s: float) -> bool:
        """The queue delay just met; True while the next one is wanted soon."""
        self._observer.delayed(delay_s)
        self._worker.sample(delay_s, self._here(self._worker))
        self._database.sample(self._connection_delay_s(), self._here(self._database))
        if self._held:
            self._held.release()
        now_s = time.monotonic()
        self._samples += 1
        # Two at least: a single late one may be anything.
        if now_s - self._look_s >= LOOK_S and self._samples > 1:
            self._look(now_s)
        return self._in_flight > 0 or bool(self._limiting) or bool(self._held)

    def _look(self, now_s: float) -> None:
        self._look_s, self._samples = now_s, 0
        bounds = self._worker, self._database
        self._tell(now_s, self._worker.refused)
        for bound in bounds:
            bound.look()
        self._limiting = tuple(bound for bound in bounds if bound.rooms is not None)
        self._at_ease = 0 if self._limiting else round(2 * self._worker.usual) + self._least
        if self._turned_away:
            came = self._entered + self._turned_away
            self._spread_s = min(LATEST_S, max(SOONEST_S, came / max(1, self._entered)))
        self._entered = self._turned_away = 0
        self._looks += 1
        if not self._limiting:
            self._crowd.clear()
        elif self._looks % FADE_LOOKS == 0:
            self._crowd.fade()

    def _tell(self, now_s: float, turned_away: int) -> None:
        """Say once that it began, and once that it is over: of the worker's own time only, as a
        busy database says so itself.
        """
        if turned_away:
            self._last_shed_s = now_s
            self._shed += turned_away
            if self._shedding_since_s is None:
                self._shedding_since_s = now_s
                self._shed = turned_away
                status = self.status()
                log.warning(
                    "overload_began", limit=status.limit, queue_delay_ms=status.queue_delay_ms
                )
        elif self._shedding_since_s is not None and now_s - self._last_shed_s >= QUIET_S:
            seconds = self._last_shed_s - self._shedding_since_s
            self._shedding_since_s = None
            log.info("overload_ended", seconds=round(seconds, 1), turned_away=self._shed)

    def __repr__(self) -> str:
        limits = ", ".join(f"{b.short} {b.limit}" for b in self._limiting)
        return f"<Overload {self._in_flight} in flight, limits: {limits or 'none'}>"
