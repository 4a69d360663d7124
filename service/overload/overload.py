"""Turns requests away while this worker has more to do than it can, so that the others are served.

What is scarce in a worker is the one thread its event loop runs on, and requests queue for it
before any line of ours sees them: in their sockets, and among the tasks that are ready. So it is
that wait which is measured (``queue_delay``), and a limit on requests in flight that keeps it short
(``limit``). Response times would not do: those of ``start_job`` are the payment service's, those of
a waiting ``status`` are asked for. Who waits for others by design is not counted in flight
(``aside``); the pool of connections and the bulkhead have bounded queues of their own.

While there is a limit, kinds of requests may fill different parts of it (``models``), and clients
that have had more than the average only part of that (``crowd``). Refusals are held back a little
(``held``).
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Protocol

import structlog

from service.overload.crowd import Crowd
from service.overload.held import Held
from service.overload.limit import AdaptiveLimit
from service.overload.models import SHARES, OverloadStatus, Priority, Reason
from service.overload.queue_delay import QueueDelay
from service.settings import OverloadSettings

#: Samples are looked at together after this long. Their median counts: one request that computes
#: for long, or a pause of the garbage collector, is no overload.
LOOK_S = 0.1
#: Looks until half of what clients have had is forgotten.
FADE_LOOKS = 5
#: A client that has had more than others may fill this part of what its kind may.
GREEDY = 0.75
#: Without a request turned away for this long, the overload is over.
QUIET_S = 5.0
#: Clients are told to come again within this time, spread evenly, the longer the more there are.
SOONEST_S, LATEST_S = 2.0, 10.0

log = structlog.get_logger()


class Observer(Protocol):
    def delayed(self, seconds: float) -> None: ...
    def shed(self, priority: str, reason: Reason) -> None: ...


class Overload:
    """``enter``, and ``leave`` whoever was let in; ``hold`` whoever was not."""

    def __init__(
        self,
        settings: OverloadSettings,
        observer: Observer,
        *,
        aside: Callable[[], int] = lambda: 0,
    ) -> None:
        self._enabled = settings.enabled
        self._observer = observer
        #: Of those in flight, how many wait for others by design.
        self._aside = aside
        self._limit = AdaptiveLimit(target_s=settings.queue_delay, least=settings.least_requests)
        self._queue_delay = QueueDelay(self.sample)
        self._crowd = Crowd()
        self._held = Held()
        self.in_flight = 0
        #: What each kind may fill, and the greedy of that kind; None: there is no limit.
        self._rooms: tuple[tuple[int, int], ...] | None = None
        self._delays: list[float] = []
        self._most_in_flight = 0
        self._look_s = 0.0
        self._looks = 0
        self._entered = self._turned_away = 0
        self._spread_s = SOONEST_S
        self._delay_s = 0.0
        self._shedding_since_s: float | None = None
        self._last_shed_s = 0.0
        self._shed = 0

    # --- on the way of a request ----------------------------------------------------------------

    def enter(self, priority: Priority, principal: str) -> bool:
        """May it come in? If so, ``leave`` is to be called when it goes."""
        if self._rooms is not None and not self._has_room(self._rooms, priority, principal):
            return False
        self.in_flight += 1
        return True

    def leave(self) -> None:
        self.in_flight -= 1

    async def hold(self) -> None:
        """Whoever was not let in waits here before it is told so."""
        await self._held.wait()

    def retry_after_s(self) -> int:
        """When to come again: different for each, so that they do not all come at once."""
        return 1 + int(random.random() * self._spread_s)  # noqa: S311 - spread, no secret

    def _has_room(
        self, rooms: tuple[tuple[int, int], ...], priority: Priority, principal: str
    ) -> bool:
        here = self.in_flight - self._aside()
        room, greedy_room = rooms[priority]
        if here >= room:
            self._turn_away(priority, "limit")
            return False
        if here >= greedy_room and self._crowd.above_average(principal):
            self._turn_away(priority, "share")
            return False
        self._crowd.note(principal)
        self._entered += 1
        return True

    def _turn_away(self, priority: Priority, reason: Reason) -> None:
        self._turned_away += 1
        self._observer.shed(priority.name.lower(), reason)

    # --- beside it ------------------------------------------------------------------------------

    def start(self) -> None:
        if self._enabled:
            self._held.start()
            self._queue_delay.start()

    def stop(self) -> None:
        """From now on all are let in, and who is held goes."""
        self._queue_delay.stop()
        self._held.stop()
        self._rooms = None

    def status(self) -> OverloadStatus:
        limit = self._limit.value
        return OverloadStatus(
            limit=None if limit is None else int(limit),
            in_flight=self.in_flight,
            queue_delay_ms=round(self._delay_s * 1000, 1),
            shedding=self._shedding_since_s is not None,
        )

    def sample(self, delay_s: float) -> bool:
        """One more delay; True while the next one is wanted soon."""
        self._observer.delayed(delay_s)
        self._delays.append(delay_s)
        here = self.in_flight - self._aside()
        self._most_in_flight = max(self._most_in_flight, here)
        if self._held:
            self._held.release()
        now_s = time.monotonic()
        # Two at least: a single late one may be anything.
        if now_s - self._look_s >= LOOK_S and len(self._delays) > 1:
            self._look(now_s)
        return here > 0 or self._rooms is not None or len(self._held) > 0

    def _look(self, now_s: float) -> None:
        self._look_s = now_s
        delays, self._delays = sorted(self._delays), []
        self._delay_s = delays[(len(delays) - 1) // 2]
        self._limit.look(
            self._delay_s, in_flight=self._most_in_flight, pressed=self._turned_away > 0
        )
        self._most_in_flight = 0
        self._tell(now_s)
        if self._turned_away:
            came = self._entered + self._turned_away
            self._spread_s = min(LATEST_S, max(SOONEST_S, came / max(1, self._entered)))
        self._entered = self._turned_away = 0
        if self._limit.value is None:
            self._rooms = None
            self._crowd.clear()
            return
        self._rooms = _rooms(self._limit.value)
        self._looks += 1
        if self._looks % FADE_LOOKS == 0:
            self._crowd.fade()

    def _tell(self, now_s: float) -> None:
        """Say once that it began, and once that it is over."""
        if self._turned_away:
            self._last_shed_s = now_s
            self._shed += self._turned_away
            if self._shedding_since_s is None:
                self._shedding_since_s = now_s
                self._shed = self._turned_away
                status = self.status()
                log.warning(
                    "overload_began",
                    limit=status.limit,
                    in_flight=status.in_flight,
                    queue_delay_ms=status.queue_delay_ms,
                )
        elif self._shedding_since_s is not None and now_s - self._last_shed_s >= QUIET_S:
            seconds = self._last_shed_s - self._shedding_since_s
            self._shedding_since_s = None
            log.info("overload_ended", seconds=round(seconds, 1), turned_away=self._shed)

    def __repr__(self) -> str:
        limit = "no limit" if self._limit.value is None else f"of {int(self._limit.value)}"
        return f"<Overload {self.in_flight} in flight, {limit}>"


def _rooms(limit: float) -> tuple[tuple[int, int], ...]:
    """By priority: what its requests may fill, and those of the greedy."""
    rooms = [max(1, round(limit * SHARES[priority])) for priority in Priority]
    return tuple((room, max(1, int(room * GREEDY))) for room in rooms)
