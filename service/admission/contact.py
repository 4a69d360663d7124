"""Contact with one Redis node: how far it is, and when it is given up.

One lost batch is an accident; ``guard`` says when it is an outage. A node that answers that it
cannot serve (a replica, loading, its cluster down) is as good as away. What is counted here is the
node's, whichever of its lines a batch went by.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from service.errors import StoreUnavailable
from service.store.guard import Guard
from service.store.refusals import is_unfit

if TYPE_CHECKING:
    from service.store.line import Line

#: With a longer round trip a second batch goes out before the first is back.
LONG_ROUND_TRIP_S = 0.001


class Contact:
    """``failed`` is told when the node is given up, and since when it has not answered (µs)."""

    def __init__(self, failed: Callable[[int], None]) -> None:
        self._failed = failed
        self._guard = Guard()
        self._failing_since_us: int | None = None
        self._round_trip_s = 0.0

    @property
    def is_far(self) -> bool:
        return self._round_trip_s > LONG_ROUND_TRIP_S

    async def exchange(
        self, line: Line, commands: Sequence[bytes], *, always: bool = False
    ) -> list[Any]:
        """Replies in order; None for each that was lost, or not sent because Redis rests.

        ``always`` sends through a rest as well.
        """
        begun_s = time.monotonic()
        replies: list[Any] = [None] * len(commands)
        try:
            with self._guard.attempt(always=always):
                replies = await line.exchange(commands)
                _all_answered(replies)
        except StoreUnavailable:
            self._failing_since_us = self._failing_since_us or int(begun_s * 1_000_000)
            if self._guard.resting:
                self._failed(self._failing_since_us)
            return replies
        self._failing_since_us = None
        taken_s = time.monotonic() - begun_s
        # The least of late: a busy loop of our own must not pass for a long way.
        self._round_trip_s = min(taken_s, self._round_trip_s * 1.02 or taken_s)
        return replies

    def __repr__(self) -> str:
        return f"<Contact {self._guard!r} round_trip_ms={self._round_trip_s * 1000:.2f}>"


def _all_answered(replies: Sequence[Any]) -> None:
    if replies[-1] is None or is_unfit(replies[-1]):
        raise StoreUnavailable
