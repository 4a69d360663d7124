"""What the worker remembers while PostgreSQL is not as it should be: away, or taking no writes."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Generator

import backoff

from service.errors import DatabaseUnavailable

# A server that is away is asked again at least this often: the longest its return goes unnoticed.
_LONGEST_PAUSE_S = 1.0
_FIRST_PAUSE_S = 0.1
# A restart is over by then. Until then who asks waits for it, rather than being refused at once.
_RESTART_S = 2.0
# An outage is told when it starts, and again this often while it lasts.
_REMINDER_S = 10.0
# What PgBouncer says of the settings we send along, unless it is announced to us.
_POOLER_COMPLAINT = "unsupported startup parameter"


class Outage:
    """From the first failed attempt to connect to the next successful one."""

    def __init__(self, now_s: float) -> None:
        self._cause: BaseException | None = None
        self._pauses = _growing_pauses()
        self._wake: asyncio.TimerHandle | None = None
        self._began_s = now_s
        self._told_at_s: float | None = None

    def error(self) -> DatabaseUnavailable:
        """What a borrower is told; a new one each time, for a traceback belongs to one raise."""
        error = DatabaseUnavailable(f"PostgreSQL cannot be reached: {one_line(self._cause)}")
        error.__cause__ = self._cause
        return error

    def hopeless(self, now_s: float) -> bool:
        """Has it lasted longer than a restart would?"""
        return now_s - self._began_s >= _RESTART_S

    @property
    def pausing(self) -> bool:
        return self._wake is not None

    def begin_pause(
        self,
        cause: BaseException,
        loop: asyncio.AbstractEventLoop,
        then: Callable[[], None],
    ) -> float:
        """Note the failure, and call ``then`` after the pause that is returned."""

        def wake() -> None:
            self._wake = None
            then()

        self._cause = cause
        if self._wake:  # another opener has failed in the same breath
            return self._wake.when() - loop.time()
        pause_s: float = backoff.full_jitter(next(self._pauses))
        self._wake = loop.call_later(pause_s, wake, context=contextvars.Context())
        return pause_s

    def worth_telling(self, now_s: float) -> bool:
        if self._told_at_s is not None and now_s - self._told_at_s < _REMINDER_S:
            return False
        self._told_at_s = now_s
        return True

    def end(self) -> None:
        if self._wake:
            self._wake.cancel()
            self._wake = None


class ReadOnly:
    """Since a write was refused by a server that only reads: a standby, or a primary made one.

    The connections there were then lead to it, and are dropped; so the next write tries a new one,
    and finds the new primary if there is one. While new connections are refused too, writes are
    not sent at all, but for one now and then: each costs all connections once more.
    """

    def __init__(self) -> None:
        self._pauses = _growing_pauses()
        self._dropped_at_s = 0.0
        self._until_s = 0.0
        self.lasts = False

    def refused(self, *, opened_at_s: float, now_s: float) -> None:
        """A write was refused on a connection opened then; all that are idle are dropped now."""
        if self.lasts and opened_at_s >= self._dropped_at_s and now_s >= self._until_s:
            self._until_s = now_s + next(self._pauses)
        self.lasts = True
        self._dropped_at_s = now_s

    def pausing(self, now_s: float) -> bool:
        """Is it too soon to try another write?"""
        return self.lasts and now_s < self._until_s

    def end(self) -> None:
        """A write was taken."""
        if self.lasts:
            self.lasts = False
            self._until_s = 0.0
            self._pauses = _growing_pauses()


def one_line(error: BaseException | None) -> str:
    """What went wrong in connecting, for people."""
    if isinstance(error, TimeoutError):
        return "no answer in time"
    text = " ".join(str(error).split()) or type(error).__name__
    if _POOLER_COMPLAINT in text:
        return f"{text} (is this a connection pooler? then set database.pooler)"
    return text


def _growing_pauses() -> Generator[float, None, None]:
    pauses: Generator[float, None, None] = backoff.expo(
        factor=_FIRST_PAUSE_S, max_value=_LONGEST_PAUSE_S
    )
    next(pauses)  # the library's generators give nothing the first time
    return pauses
