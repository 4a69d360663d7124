"""How long what becomes ready waits for its turn on the event loop.

A sample is a timer that asks for its turn like everybody else (``call_soon``): late by what is left
of the present turn, which a request spends in its socket, and by all that stands before it in the
queue of the ready, which a request meets after it was read. Where requests wait for nothing but
the processor, that is their whole wait; what waits for others delays no sample.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

#: Between two samples while there are requests, and while there are none: 0.1 % of a core at most.
BUSY_INTERVAL_S = 0.02
IDLE_INTERVAL_S = 0.1


class QueueDelay:
    """Calls ``sampled`` with each delay in seconds; it says whether more are soon to come."""

    def __init__(self, sampled: Callable[[float], bool]) -> None:
        self._sampled = sampled
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._due_s = 0.0

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._arm(IDLE_INTERVAL_S)

    def stop(self) -> None:
        self._loop = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def overdue_s(self) -> float:
        """By how much the next sample is late already; negative while it is not."""
        return -1.0 if self._loop is None else time.monotonic() - self._due_s

    def _arm(self, interval_s: float) -> None:
        if self._loop is not None:
            self._due_s = time.monotonic() + interval_s
            self._timer = self._loop.call_later(interval_s, self._due)

    def _due(self) -> None:
        if self._loop is not None:
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        if self._loop is not None:
            busy = self._sampled(max(0.0, time.monotonic() - self._due_s))
            self._arm(BUSY_INTERVAL_S if busy else IDLE_INTERVAL_S)
