"""Refusals that are held back a little, so that they are not quicker than service.

Reason: making a refusal costs half as much as a cheap answer. Who is refused at once and asks at
once again, on as many connections as he likes, would take the worker's time from those it has
accepted; and a balancer that sends to whoever has least in hand would send the more to a worker
that only refuses. Held back, each connection costs a few refusals a second, for no more than a
future; so many are released at a time as leave time to work.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque

#: Each is held for this long at least ...
HOLD_S = 0.2
#: ... and at most so many are released at a sample: some 5 % of a worker's time.
MOST_RELEASED = 40
#: Further ones are not held: each takes a connection of a balancer, and nobody is to wait long.
MOST_HELD = 1000


class Held:
    """``wait`` for one's release; ``release`` those whose time has come."""

    def __init__(self) -> None:
        self._places: deque[tuple[float, asyncio.Future[None]]] = deque()
        self._open = False

    def __len__(self) -> int:
        return len(self._places)

    def start(self) -> None:
        self._open = True

    def stop(self) -> None:
        """Let all go, and hold nobody any more."""
        self._open = False
        self._release(len(self._places))

    async def wait(self) -> None:
        if self._open and len(self._places) < MOST_HELD:
            place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._places.append((time.monotonic() + HOLD_S, place))
            await place

    def release(self) -> None:
        """Those whose time has come, the oldest first."""
        now_s = time.monotonic()
        due = 0
        for until_s, _ in self._places:
            if until_s > now_s or due == MOST_RELEASED:
                break
            due += 1
        self._release(due)

    def _release(self, number: int) -> None:
        for _ in range(number):
            _, place = self._places.popleft()
            if not place.done():  # its client may have left
                place.set_result(None)
