"""What kinds of statements there are: how long each may take, and whom each may keep waiting.

A statement's class stands beside its name in queries.sql: ``-- name: claim_runs (batch)``. Two
things follow from it. Its time limit covers everything, the wait for a connection too. Its lane is
whom it shares connections with: what is kept for one lane, no other lane can take (``lanes``).

| class | for | lane | limit (setting) | repeated when the connection breaks |
|---|---|---|---|---|
| quick | status, look-ups by key: nothing is written | requests | quick_timeout | once |
| write | start_job, provide_input, what follows a payment call | requests | write_timeout | never |
| read | flows, lists: what the caches are filled from | reads | quick_timeout | once |
| batch | job loops: claims, leases, results | loops | batch_timeout | never |
| long | import, census, inspection | reads | query_timeout | never |
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from service.settings import DatabaseSettings


class Lane(StrEnum):
    """Who shares connections with whom."""

    REQUESTS = "requests"
    READS = "reads"
    LOOPS = "loops"


class StatementClass(StrEnum):
    QUICK = "quick"
    WRITE = "write"
    READ = "read"
    BATCH = "batch"
    LONG = "long"

    @property
    def lane(self) -> Lane:
        return _LANES[self]

    @property
    def repeatable(self) -> bool:
        """Does it only read, so that running it twice is the same as once?"""
        return self in (StatementClass.QUICK, StatementClass.READ)

    @property
    def writes(self) -> bool:
        """Is it of no use to ask a server that takes no writes?"""
        return self in (StatementClass.WRITE, StatementClass.BATCH)


class Statement(str):
    """The text of a statement, which knows its name and class."""

    __slots__ = ("kind", "name")

    name: str
    kind: StatementClass

    def __new__(cls, text: str, *, name: str, kind: StatementClass) -> Statement:
        self = super().__new__(cls, text)
        self.name, self.kind = name, kind
        return self

    @classmethod
    def of(cls, text: str) -> Statement:
        """This one, or one made of plain text: unnamed, and bound by nothing but query_timeout."""
        return (
            text if isinstance(text, cls) else cls(text, name="unnamed", kind=StatementClass.LONG)
        )


def limits(settings: DatabaseSettings) -> Mapping[StatementClass, float]:
    """How long a statement of each class may take, the wait for its connection included."""
    longest_s = settings.query_timeout
    quick_s = min(settings.quick_timeout, longest_s)
    return {
        StatementClass.QUICK: quick_s,
        StatementClass.READ: quick_s,
        StatementClass.WRITE: min(settings.write_timeout, longest_s),
        StatementClass.BATCH: min(settings.batch_timeout, longest_s),
        StatementClass.LONG: longest_s,
    }


_LANES = {
    StatementClass.QUICK: Lane.REQUESTS,
    StatementClass.WRITE: Lane.REQUESTS,
    StatementClass.READ: Lane.READS,
    StatementClass.BATCH: Lane.LOOPS,
    StatementClass.LONG: Lane.READS,
}
