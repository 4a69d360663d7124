"""What the database tells of itself while it works, to whoever counts it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from service.database.classes import Lane, StatementClass
from service.database.models import PoolStatus


class Observer(Protocol):
    """Synchronous and quick: each is called on the way of a request."""

    def watch(self, status: Callable[[], PoolStatus]) -> None:
        """Where the pool's present numbers can be had at any time."""

    def waited(self, lane: Lane, seconds: float) -> None:
        """Somebody was lent a connection after so long in the queue."""

    def refused(self, lane: Lane, reason: str) -> None:
        """Somebody got none. reason: busy (waited in vain), full (queue), away (no server)."""

    def opened(self) -> None:
        """A connection was opened."""

    def lost(self, cause: str) -> None:
        """One is no more. cause: broken (not by us), given-up (a statement in it did not end, or
        its caller did not wait), suspect (dropped because others failed).
        """

    def ran(self, name: str, kind: StatementClass, seconds: float, outcome: str) -> None:
        """A statement ended. outcome: ok, timeout, unavailable, read-only, busy, failed."""

    def repeated(self) -> None:
        """A read whose connection broke is sent once more."""


class Nobody:
    """Counts nothing: for commands."""

    def watch(self, status: Callable[[], PoolStatus]) -> None: ...

    def waited(self, lane: Lane, seconds: float) -> None: ...

    def refused(self, lane: Lane, reason: str) -> None: ...

    def opened(self) -> None: ...

    def lost(self, cause: str) -> None: ...

    def ran(self, name: str, kind: StatementClass, seconds: float, outcome: str) -> None: ...

    def repeated(self) -> None: ...
