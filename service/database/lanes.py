"""Who is lent the next connection: decided here, without any I/O.

Some connections are kept for the requests that must go on, a few for the job loops, and none for
reads, which caches stand in for. The rest goes to whoever asks first. So no flood of one lane can
keep another one out. Those who wait are served lane by lane in turn, and first come first served
within a lane: a long queue in one lane makes nobody in another wait for it.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Iterator
from typing import Generic, TypeVar

from service.database.classes import Lane

C = TypeVar("C")

#: Of the pool, for requests, where no setting says otherwise.
_RESERVE_SHARE = 5
#: Of that reserve, beside it, for the job loops.
_LOOPS_SHARE = 2


def reserves(maximum: int, reserve: int | None) -> dict[Lane, int]:
    """What is kept for each lane of ``maximum`` connections; at least one belongs to no lane."""
    wanted = round(maximum / _RESERVE_SHARE) if reserve is None else reserve
    least = 1 if reserve is None else 0
    requests = min(max(least, wanted), maximum - 1)
    loops = min(math.ceil(requests / _LOOPS_SHARE), maximum - 1 - requests)
    return {Lane.REQUESTS: requests, Lane.READS: 0, Lane.LOOPS: loops}


class Lanes(Generic[C]):
    """What is lent to each lane, and who waits in it; ``C`` is a connection."""

    def __init__(self, maximum: int, *, reserve: int | None = None, waiting_max: int) -> None:
        self._maximum = maximum
        self._waiting_max = waiting_max
        self._kept = reserves(maximum, reserve)
        self.lent = dict.fromkeys(Lane, 0)
        self._queues: dict[Lane, deque[asyncio.Future[C]]] = {lane: deque() for lane in Lane}
        #: Since when each of them waits (monotonic).
        self._since_s: dict[asyncio.Future[C], float] = {}
        #: Whose turn it is: the lane that was served longest ago comes first.
        self._turn = list(Lane)

    def may(self, lane: Lane) -> bool:
        """Is there room for one more of this lane, as far as the others' reserves go?"""
        lent, kept = self.lent, self._kept
        if lent[lane] < kept[lane]:
            return True
        return sum(max(lent[each], kept[each]) for each in Lane) < self._maximum

    def most(self, lane: Lane) -> int:
        """How many this lane can ever have."""
        return self._maximum - sum(kept for each, kept in self._kept.items() if each != lane)

    def full(self, lane: Lane) -> bool:
        """Do so many wait in this lane that another one would wait in vain?"""
        return len(self._queues[lane]) >= self._waiting_max

    def waiting(self, lane: Lane) -> int:
        return len(self._queues[lane])

    def __len__(self) -> int:
        """How many wait, in all lanes."""
        return sum(map(len, self._queues.values()))

    def waited_s(self, lane: Lane) -> float:
        """For how long the first of this lane has waited; 0 where nobody does."""
        for place in self._queues[lane]:
            if not place.done():
                return time.monotonic() - self._since_s[place]
        return 0.0

    def join(self, lane: Lane, place: asyncio.Future[C]) -> None:
        self._queues[lane].append(place)
        self._since_s[place] = time.monotonic()

    def leave(self, lane: Lane, place: asyncio.Future[C]) -> bool:
        """Did this one wait (until now)?"""
        try:
            self._queues[lane].remove(place)
        except ValueError:
            return False
        del self._since_s[place]
        return True

    def next(self) -> tuple[Lane, asyncio.Future[C]] | None:
        """Take the one whose turn it is out of the queue, if anybody waits that may be served."""
        for lane in self._turn:
            queue = self._queues[lane]
            while queue and queue[0].done():
                self._first(queue)
            if queue and self.may(lane):
                self._turn.remove(lane)
                self._turn.append(lane)
                return lane, self._first(queue)
        return None

    def everybody(self) -> Iterator[asyncio.Future[C]]:
        """All who wait, taken out of their queues."""
        for queue in self._queues.values():
            while queue:
                place = self._first(queue)
                if not place.done():
                    yield place

    def _first(self, queue: deque[asyncio.Future[C]]) -> asyncio.Future[C]:
        place = queue.popleft()
        del self._since_s[place]
        return place
