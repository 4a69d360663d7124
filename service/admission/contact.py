"""Contact with one Redis node: how far it is, and when it is given up.

One lost batch is an accident; ``guard`` says when it is an outage. A node that answers that it
cannot serve (a replica, loading, its cluster down) is as good as away, and so is one that forbids
what is asked; it is back when it allows just that. What is counted here is the node's, whichever of
its lines a batch went by.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from service.errors import StoreUnavailable
from service.store.guard import Guard
from service.store.refusals import is_forbidden, is_unfit

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
        #: A command that the node did not allow when it was last asked.
        self._forbidden: bytes | None = None
        self._round_trip_s = 0.0

    @property
    def is_far(self) -> bool:
        return self._round_trip_s > LONG_ROUND_TRIP_S

    async def exchange(
        self, line: Line, commands: Sequence[bytes], *, always: bool = False
    ) -> list[Any]:
        """Replies in order; None for each that was lost, or not sent because Redis rests.

        ``always`` sends through a rest as well, and asks first for what was forbidden. Should that
        be allowed by now, it costs somebody the tokens of one request, which nobody gets.
        """
        begun_s = time.monotonic()
        replies: list[Any] = [None] * len(commands)
        try:
            with self._guard.attempt(always=always):
                if always:
                    await self._allowed_again(line)
                replies = await line.exchange(commands)
                if not always:
                    self._find_forbidden(commands, replies)
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

    def _find_forbidden(self, commands: Sequence[bytes], replies: Sequence[Any]) -> None:
        """Raises StoreUnavailable. Of a batch, the first or the last is like the others."""
        self._forbidden = None
        for place in (0, -1):
            if is_forbidden(replies[place]):
                self._forbidden = commands[place]
                raise StoreUnavailable

    async def _allowed_again(self, line: Line) -> None:
        """Raises StoreUnavailable where it is not."""
        if self._forbidden is not None:
            (reply,) = await line.exchange([self._forbidden])
            if is_forbidden(reply):
                raise StoreUnavailable
            self._forbidden = None

    def __repr__(self) -> str:
        return f"<Contact {self._guard!r} round_trip_ms={self._round_trip_s * 1000:.2f}>"


def _all_answered(replies: Sequence[Any]) -> None:
    if replies[-1] is None or is_unfit(replies[-1]):
        raise StoreUnavailable
