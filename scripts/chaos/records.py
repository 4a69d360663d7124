"""Read a fleet's PostgreSQL and its sandbox's books into the auditor's words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from scripts.chaos.audit import Booked, Books, Recorded, Told
from scripts.chaos.fleet import Fleet

_JOBS = """
SELECT j.id::text AS job, j.identifier_from_purchaser AS identifier, j.free, j.state,
       j.result_hash, j.settlement,
       count(*) FILTER (WHERE e.state = 'completed') AS completions,
       count(*) FILTER (WHERE e.state IN ('completed', 'failed')) AS endings
FROM jobs j JOIN job_events e ON e.job_id = j.id
GROUP BY j.id
"""
_OPEN = """
SELECT count(*) AS jobs FROM jobs
WHERE state NOT IN ('completed', 'failed') OR settlement IN ('due', 'submitted')
"""
#: What the loops would wait for is now; and nobody waits for the leases of the dead.
_HASTEN = """
UPDATE jobs SET due_at = now()
WHERE (state IN ('creating', 'awaiting_payment') OR settlement IN ('due', 'submitted'))
  AND due_at > now() AND created_at < now() - interval '1 second';
UPDATE loop_leases SET lease_until = '-infinity'
WHERE NOT split_part(owner, ':', 2)::int = ANY(%(living)s) AND lease_until > now()
"""


class Source(Protocol):
    """A fleet, however it was started: the rows of its database, and its sandbox's books."""

    def rows(self, statement: str, **params: Any) -> list[dict[str, Any]]: ...

    def books(self) -> list[dict[str, Any]]: ...


def books(fleet: Source, told: Sequence[Told]) -> Books:
    booked = tuple(
        Booked(
            job=payment["metadata"],
            state=payment["onChainState"],
            result_hash=payment["resultHash"],
            submitted=tuple(payment["submitted"]),
        )
        for payment in fleet.books()
    )
    recorded = tuple(Recorded(**row) for row in fleet.rows(_JOBS))
    return Books(tuple(told), recorded, booked)


def open_jobs(fleet: Source) -> int:
    """Jobs that are not final, or whose result is not."""
    return int(fleet.rows(_OPEN)[0]["jobs"])


def hasten(fleet: Fleet) -> None:
    """Let the job loops look now at all they would look at later; they decide as ever."""
    fleet.rows(_HASTEN, living=fleet.workers())
