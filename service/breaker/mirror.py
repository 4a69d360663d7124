"""What the fleet's breaker last refused, so that the next refusals cost no call to Redis.

Only refusals with an end are remembered, never that calls are let through: a remembered permission
would let calls pass an open circuit.
"""

from __future__ import annotations

import time
from collections.abc import Callable

#: An operator's word and a probe's success reach every worker within this, and one more answer.
ASK_AGAIN_S = 0.5


class Mirror:
    """``clock`` is monotonic, in seconds."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._until_s = 0.0
        self._ask_at_s = 0.0

    def wait_s(self) -> float:
        """How much longer to refuse without asking; 0: ask.

        Now and then one caller is told to ask before the time is up; the others are refused on.
        """
        now_s = self._clock()
        if now_s >= self._until_s:
            return 0.0
        if now_s >= self._ask_at_s:
            self._ask_at_s = now_s + ASK_AGAIN_S
            return 0.0
        return self._until_s - now_s

    @property
    def holds(self) -> bool:
        """Is the time of the last refusal not up yet?"""
        return self._clock() < self._until_s

    def remember(self, wait_s: float, *, asked_at_s: float) -> None:
        """Refused for ``wait_s``, counted from the question: the answer's way is not added."""
        self._until_s = asked_at_s + wait_s
        self._ask_at_s = asked_at_s + ASK_AGAIN_S

    def forget(self) -> None:
        self._until_s = 0.0

    def __repr__(self) -> str:
        left_s = self._until_s - self._clock()
        return f"<Mirror refusing for {left_s:.1f} s>" if left_s > 0 else "<Mirror empty>"
