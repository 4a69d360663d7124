"""The settlement outbox in PostgreSQL: results that must reach the chain, and how far they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from service.database import Database, Queries
from service.jobs.models import Settlement
from service.jobs.rows import origin

#: So long before submitResultTime the payment service takes no more results.
CLOSES_S = 300.0
#: Asked so often to lift an error state in vain, the payment service needs a person.
MOST_RECOVERIES = 5


@dataclass(frozen=True, slots=True)
class Outlook:
    """Results on their way to the chain."""

    waiting: int
    #: Of these, in an error state that our recoveries did not lift.
    stuck: int
    #: Until the first of them is due on chain; negative: too late. None while none waits.
    tightest_s: float | None


class Outbox:
    def __init__(self, database: Database, statements: Queries) -> None:
        self._db = database
        self._sql = statements

    async def claim(self, *, most: int, again_in_s: float) -> tuple[Settlement, ...]:
        """Results that are due, the most urgent first; put off, so that no other takes them."""
        rows = await self._db.fetch(
            self._sql.claim_settlements, {"most": most, "again_in_s": again_in_s}
        )
        claimed = (
            Settlement(
                job_id=row["id"],
                blockchain_identifier=row["blockchain_identifier"],
                result_hash=row["result_hash"],
                submit_result_time_ms=row["submit_result_time_ms"],
                attempts=row["settlement_attempts"],
                recoveries=row["settlement_recoveries"],
                origin=origin(row),
            )
            for row in rows
        )
        return tuple(sorted(claimed, key=lambda settlement: settlement.submit_result_time_ms))

    async def move(
        self,
        job_id: UUID,
        settlement: str,
        on_chain_state: str | None,
        *,
        again_in_s: float,
        recoveries: int = 0,
    ) -> bool:
        params = {
            "job_id": job_id,
            "settlement": settlement,
            "on_chain_state": on_chain_state,
            "again_in_s": again_in_s,
            "recoveries": recoveries,
        }
        return bool(await self._db.execute(self._sql.move_settlement, params))

    async def put_off(self, job_ids: Sequence[UUID], *, again_in_s: float) -> None:
        """What was claimed and not looked at is soon due again."""
        params = {"job_ids": [str(job_id) for job_id in job_ids], "again_in_s": again_in_s}
        await self._db.execute(self._sql.put_off_settlements, params)

    async def reopen(self, job_id: UUID, on_chain_state: str | None) -> bool:
        """The chain has forgotten a result that was there: bring it once more."""
        params = {"job_id": job_id, "on_chain_state": on_chain_state}
        return bool(await self._db.execute(self._sql.reopen_settlement, params))

    async def outlook(self) -> Outlook:
        row = await self._db.fetch_one(
            self._sql.settlement_outlook, {"most_recoveries": MOST_RECOVERIES}
        )
        return (
            Outlook(row["waiting"], row["stuck"], row["tightest_s"]) if row else Outlook(0, 0, None)
        )
