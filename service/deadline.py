"""One time budget per request, carried by a ContextVar (the loop's monotonic clock).

Every layer takes ``at_most(own_limit)`` and so never outlives the request it works for. Code that
runs for no request (the job loops) has no deadline but what it sets itself with ``within``.

Between services a budget travels as ``X-Request-Timeout-Ms``: what is left, not when it ends, since
two machines' clocks differ.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from service.errors import DeadlineExceeded

HEADER = "X-Request-Timeout-Ms"
#: Nine digits are eleven days; more is no budget but a mistake.
_MILLISECONDS = re.compile(r"[0-9]{1,9}", re.ASCII)


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


@contextmanager
def within(limit_s: float) -> Iterator[Deadline]:
    """Do the rest in ``limit_s``, or in what is left already, if that is less."""
    deadline = Deadline.after(limit_s)
    outer = CURRENT.get()
    with _current(deadline if outer is None else min(deadline, outer, key=_end)) as budget:
        yield budget


@contextmanager
def instead(limit_s: float) -> Iterator[Deadline]:
    """Do the rest in ``limit_s``, whatever is left: for what must be finished once it has begun."""
    with _current(Deadline.after(limit_s)) as budget:
        yield budget


def outbound(limit_s: float) -> dict[str, str]:
    """The header field that tells the called how long its answer is waited for."""
    left_s = remaining_s()
    seconds = limit_s if left_s is None else min(limit_s, left_s)
    return {HEADER: str(max(1, int(seconds * 1000)))}


def shortened(limit_s: float, asked: str | None) -> float:
    """Our limit, or what the caller asks for by ``HEADER`` if that is less.

    0 and what is no whole number of milliseconds count as not asked: no client wants no answer.
    """
    if asked is None or not _MILLISECONDS.fullmatch(asked.strip()):
        return limit_s
    return min(limit_s, int(asked) / 1000 or limit_s)


@contextmanager
def _current(deadline: Deadline) -> Iterator[Deadline]:
    token = CURRENT.set(deadline)
    try:
        yield deadline
    finally:
        CURRENT.reset(token)


def _end(deadline: Deadline) -> float:
    return deadline.at_s
