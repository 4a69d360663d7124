"""Final answers about jobs, as they were shown: a bounded map, least recently asked for first out.

A job that has ended never changes what is told of it (no statement leads out of its state; funds
that come late, the settlement and the chain's word are not shown), so the bytes are right for ever
and need no age. Only what is done by hand can prove them wrong: any change of a finished job is
notified and drops its answer. Where messages may have been missed, answers are doubted: read once
more before they are given, unless they cannot be read.

Not shared through Redis: an answer is read once by each worker that is asked for it, by primary key
and together with others. Asking Redis first would cost every one of those reads a round trip more,
and keep megabytes there, to save PostgreSQL less than one query for each job and worker.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from uuid import UUID

#: Per worker: what their bodies, and about so much more for each, may take.
MOST_BYTES = 16 * 1024 * 1024
MOST_ANSWERS = 10_000
#: One answer takes no more than one part in so many of that.
LARGEST = 4
#: Beside its body: keys, head, tag and the entry itself.
OVERHEAD_BYTES = 600


@dataclass(frozen=True, slots=True)
class Shown:
    """What was answered about a job of this flow; ``tag`` is equal exactly when ``body`` is."""

    flow_uid: UUID
    body: bytes
    tag: str


class KeptAnswers:
    """Of finished jobs only."""

    def __init__(self, *, most: int = MOST_ANSWERS, most_bytes: int = MOST_BYTES) -> None:
        self._most = most
        self._most_bytes = most_bytes
        self._answers: OrderedDict[UUID, Shown] = OrderedDict()
        self._doubted: set[UUID] = set()
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._answers)

    def get(self, job_id: UUID, *, doubted: bool = False) -> Shown | None:
        """``doubted``: even if it is."""
        if not doubted and job_id in self._doubted:
            return None
        shown = self._answers.get(job_id)
        if shown is not None:
            self._answers.move_to_end(job_id)
        return shown

    def put(self, job_id: UUID, shown: Shown) -> None:
        """What is so large that it would drive out much else is not kept."""
        self.drop(job_id)
        if _size(shown) * LARGEST > self._most_bytes:
            return
        self._answers[job_id] = shown
        self.bytes += _size(shown)
        while self.bytes > self._most_bytes or len(self._answers) > self._most:
            self.drop(next(iter(self._answers)))

    def drop(self, job_id: UUID) -> None:
        self._doubted.discard(job_id)
        shown = self._answers.pop(job_id, None)
        if shown is not None:
            self.bytes -= _size(shown)

    def doubt(self) -> None:
        """All of them."""
        self._doubted = set(self._answers)

    def __repr__(self) -> str:
        return f"<KeptAnswers {len(self)}, {self.bytes} bytes>"


def _size(shown: Shown) -> int:
    return len(shown.body) + OVERHEAD_BYTES
