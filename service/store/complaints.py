"""How often the same complaint is made: at once, and then once a minute while it goes on.

A server that refuses one command and takes the next would else fill the log, line by line.
"""

from __future__ import annotations

import time
from collections.abc import Callable

AGAIN_S = 60.0
#: Different ones that are remembered; a server has few reasons at a time.
_MOST = 32


class Complaints:
    """``due`` says how often something has happened, when it is time to say it; else 0."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._said_s: dict[str, float] = {}
        self._unsaid: dict[str, int] = {}

    def due(self, what: str) -> int:
        times = self._unsaid.pop(what, 0) + 1
        now_s = self._clock()
        if now_s - self._said_s.get(what, -AGAIN_S) < AGAIN_S:
            self._unsaid[what] = times
            return 0
        if len(self._said_s) >= _MOST:
            self._said_s.clear()
            self._unsaid.clear()
        self._said_s[what] = now_s
        return times

    def __repr__(self) -> str:
        return f"<Complaints {len(self._said_s)}>"
