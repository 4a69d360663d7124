"""One time budget per request, carried by a ContextVar (the loop's monotonic clock).

Every layer takes ``at_most(own_limit)`` and so never outlives the request it works for. Code that
runs for no request (the job loops) has no deadline, and gets its own limit back.
"""

from __future__ import annotations

import time
from contextvars import ContextVar
from dataclasses import dataclass

from service.errors import DeadlineExceeded


@dataclass(frozen=True, slots=True)
class Deadline:
    """A point on the monotonic clock, in seconds (``time.monotonic``)."""

    at_s: float

    @classmethod
    def after(cls, seconds: float) -> Deadline:
        return cls(time.monotonic() + seconds)

    def remaining_s(self) -> float:
        """Seconds left; negative once it has passed."""
        return self.at_s - time.monotonic()


CURRENT: ContextVar[Deadline | None] = ContextVar("deadline", default=None)


def remaining_s() -> float | None:
    """Seconds left of the current request, or None where there is no request."""
    deadline = CURRENT.get()
    return None if deadline is None else deadline.remaining_s()


def at_most(limit_s: float, *, floor_s: float = 0.0) -> float:
    """The smaller of ``limit_s`` and what is left, for use as a time-out.

    Raises DeadlineExceeded when less than ``floor_s`` is left: what cannot finish is not begun.
    """
    left_s = remaining_s()
    if left_s is None:
        return limit_s
    if left_s <= floor_s:
        raise DeadlineExceeded
    return min(limit_s, left_s)
