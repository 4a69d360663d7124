"""Jobs in PostgreSQL: each method is one statement of queries.sql, or one transaction of them.

A method that changes a state says by its result whether it was this caller who changed it: False
means that another worker was first, and nothing was written.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from service.database import Database, Row, Transaction, load_queries
from service.jobs.models import (
    Claim,
    InputRequest,
    Job,
    JobEvent,
    JobState,
    KeyRecord,
    NewJob,
    OpenPayment,
    PaymentTerms,
    Settlement,
)
from service.settings import JobSettings

SQL = load_queries("service.jobs")

#: How soon after it is made another look is taken at an intent or an unpaid job: long enough for
#: the usual way (the request itself, the change feed) to have dealt with it.
INTENT_CHECK_S = 35.0
PAYMENT_CHECK_S = 60.0
#: Before submitResultTime the payment service needs five minutes, and the chain some more.
SETTLE_MARGIN_S = 420.0


class JobRepository:
    def __init__(self, database: Database, settings: JobSettings) -> None:
        self._db = database
        self._settings = settings

    # --- start ------------------------------------------------------------------------------

    async def create(self, new: NewJob) -> KeyRecord | None:
        """Record the job and its idempotency key together; or what the key already stands for."""
        free = new.command.variant.free
        async with self._db.transaction() as tx:
            if new.key is not None and not await tx.fetch_one(
                SQL.claim_key,
                {
                    "scope": new.key_scope,
                    "key": new.key,
                    "fingerprint": new.fingerprint,
                    "job_id": new.id,
                    "life_s": self._settings.idempotency_seconds,
                },
            ):
                return await self._key_holder(tx, new)
            await tx.execute(
                SQL.insert_job,
                {
                    "id": new.id,
                    "flow_uid": new.command.flow.uid,
                    "flow_slug": new.command.flow.slug,
                    "variant": new.command.variant.name,
                    "free": free,
                    "state": JobState.RUNNING if free else JobState.CREATING,
                    "cause": "started-free" if free else "start-intended",
                    "principal": new.command.principal,
                    "identifier_from_purchaser": new.command.identifier_from_purchaser,
                    "input_data": _json(new.command.input_data),
                    "runner_input": _json(new.runner_input),
                    "input_hash": new.input_hash,
                    "supported_payment_source_index": (
                        new.command.variant.supported_payment_source_index
                    ),
                    "due_in_s": 0.0 if free else INTENT_CHECK_S,
                    "run_within_s": self._settings.run_timeout,
                },
            )
        return None

    @staticmethod
    async def _key_holder(tx: Transaction, new: NewJob) -> KeyRecord:
        row = await tx.fetch_one(SQL.find_key, {"scope": new.key_scope, "key": new.key})
        if row is None:  # released between the two statements: the same as still in progress
            return KeyRecord(new.fingerprint, new.id)
        return KeyRecord(row["fingerprint"], row["job_id"])

    async def abandon(self, job_id: UUID, code: str, failure: str) -> bool:
        params = {"job_id": job_id, "code": code, "failure": failure}
        return bool(await self._db.execute(SQL.abandon_intent, params))

    async def attach(self, job_id: UUID, terms: PaymentTerms, cause: str) -> bool:
        return bool(
            await self._db.execute(
                SQL.attach_payment,
                {
                    "job_id": job_id,
                    "cause": cause,
                    "check_in_s": PAYMENT_CHECK_S,
                    "settle_margin_s": SETTLE_MARGIN_S,
                    **{name: getattr(terms, name) for name in PaymentTerms.__slots__},
                },
            )
        )

    # --- read -------------------------------------------------------------------------------

    async def get(self, job_id: UUID) -> Job | None:
        row = await self._db.fetch_one(SQL.get_job, {"job_id": job_id})
        return None if row is None else _job(row)

    async def events(self, job_id: UUID) -> tuple[JobEvent, ...]:
        rows = await self._db.fetch(SQL.job_events, {"job_id": job_id})
        return tuple(JobEvent(**row) for row in rows)

    # --- payment ----------------------------------------------------------------------------

    async def claim_payment_checks(
        self, *, most: int, again_in_s: float
    ) -> tuple[OpenPayment, ...]:
        rows = await self._db.fetch(
            SQL.claim_payment_checks, {"most": most, "again_in_s": again_in_s}
        )
        return tuple(_open_payment(row) for row in rows)

    async def find_payments(
        self, blockchain_identifiers: Sequence[str], job_ids: Sequence[UUID]
    ) -> tuple[OpenPayment, ...]:
        rows = await self._db.fetch(
            SQL.find_payments,
            {
                "blockchain_identifiers": list(blockchain_identifiers),
                "job_ids": [str(job_id) for job_id in job_ids],
            },
        )
        return tuple(_open_payment(row) for row in rows)

    async def confirm_payment(self, job_id: UUID, on_chain_state: str) -> bool:
        params = {"job_id": job_id, "on_chain_state": on_chain_state}
        return bool(await self._db.execute(SQL.confirm_payment, params))

    async def fail_unpaid(
        self, job_id: UUID, code: str, failure: str, on_chain_state: str | None
    ) -> bool:
        params = {
            "job_id": job_id,
            "code": code,
            "failure": failure,
            "on_chain_state": on_chain_state,
        }
        return bool(await self._db.execute(SQL.fail_unpaid, params))

    async def note_chain_state(self, job_id: UUID, on_chain_state: str | None) -> None:
        params = {"job_id": job_id, "on_chain_state": on_chain_state}
        await self._db.execute(SQL.note_chain_state, params)

    # --- run --------------------------------------------------------------------------------

    async def claim_runs(self, owner: str, *, most: int) -> tuple[Claim, ...]:
        rows = await self._db.fetch(
            SQL.claim_runs,
            {"owner": owner, "most": most, "lease_s": self._settings.lease_seconds},
        )
        return tuple(
            Claim(
                job_id=row["id"],
                owner=owner,
                attempt=row["run_attempts"],
                flow_uid=row["flow_uid"],
                variant=row["variant"],
                free=row["free"],
                identifier_from_purchaser=row["identifier_from_purchaser"],
                runner_input=row["runner_input"],
                answers=tuple((request_id, inputs) for request_id, inputs in row["answers"]),
                run_deadline=row["run_deadline"],
            )
            for row in rows
        )

    async def renew(self, owner: str, job_ids: Sequence[UUID]) -> frozenset[UUID]:
        """The jobs whose lease this worker still holds, each renewed."""
        rows = await self._db.fetch(
            SQL.renew_leases,
            {
                "owner": owner,
                "job_ids": [str(job_id) for job_id in job_ids],
                "lease_s": self._settings.lease_seconds,
            },
        )
        return frozenset(row["id"] for row in rows)

    async def release(self, claim: Claim, *, again_in_s: float) -> bool:
        return bool(
            await self._db.execute(SQL.release_run, {**_fence(claim), "again_in_s": again_in_s})
        )

    async def complete(self, claim: Claim, result: str, result_hash: str) -> bool:
        params = {**_fence(claim), "result": result, "result_hash": result_hash}
        return bool(await self._db.execute(SQL.complete_run, params))

    async def fail(self, claim: Claim, code: str, failure: str) -> bool:
        params = {**_fence(claim), "code": code, "failure": failure}
        return bool(await self._db.execute(SQL.fail_run, params))

    async def ask(
        self,
        claim: Claim,
        runner_request_id: str,
        schema: dict[str, Any],
        schema_hashes: frozenset[str],
        *,
        wait_s: float,
    ) -> bool:
        params = {
            **_fence(claim),
            "runner_request_id": runner_request_id,
            "input_schema": _json(schema),
            "schema_hashes": sorted(schema_hashes),
            "wait_s": wait_s,
        }
        return bool(await self._db.execute(SQL.ask_input, params))

    async def answer(
        self,
        job_id: UUID,
        status_id: UUID,
        answer: dict[str, Any],
        runner_answer: dict[str, Any],
        answer_hash: str,
    ) -> bool:
        params = {
            "job_id": job_id,
            "status_id": status_id,
            "answer": _json(answer),
            "runner_answer": _json(runner_answer),
            "answer_hash": answer_hash,
        }
        return bool(await self._db.execute(SQL.answer_input, params))

    async def answered(self, job_id: UUID) -> tuple[tuple[UUID, frozenset[str], str], ...]:
        """The answered questions, newest first: status id, schema hashes, answer hash."""
        rows = await self._db.fetch(SQL.answered_requests, {"job_id": job_id})
        return tuple((r["id"], frozenset(r["schema_hashes"]), r["answer_hash"]) for r in rows)

    async def expire(self) -> int:
        """Fail what waited or ran too long, and forget old keys; how many jobs it were."""
        expired = await self._db.execute(SQL.expire_inputs)
        expired += await self._db.execute(SQL.expire_runs)
        await self._db.execute(SQL.purge_keys)
        return expired

    # --- settlement -------------------------------------------------------------------------

    async def claim_settlements(self, *, most: int, again_in_s: float) -> tuple[Settlement, ...]:
        rows = await self._db.fetch(SQL.claim_settlements, {"most": most, "again_in_s": again_in_s})
        return tuple(
            Settlement(
                job_id=row["id"],
                blockchain_identifier=row["blockchain_identifier"],
                result_hash=row["result_hash"],
                submit_result_time_ms=row["submit_result_time_ms"],
                attempts=row["settlement_attempts"],
                submitted=row["settlement"] == "submitted",
            )
            for row in rows
        )

    async def move_settlement(
        self, job_id: UUID, settlement: str, on_chain_state: str | None, *, again_in_s: float
    ) -> bool:
        params = {
            "job_id": job_id,
            "settlement": settlement,
            "on_chain_state": on_chain_state,
            "again_in_s": again_in_s,
        }
        return bool(await self._db.execute(SQL.move_settlement, params))

    async def settlement_backlog(self) -> int:
        row = await self._db.fetch_one(SQL.settlement_backlog)
        return int(row["depth"]) if row else 0

    # --- one worker at a time ---------------------------------------------------------------

    async def take_loop(self, name: str, owner: str, *, lease_s: float) -> dict[str, Any] | None:
        """What this work has to remember, or None while another worker does it."""
        row = await self._db.fetch_one(
            SQL.take_loop, {"name": name, "owner": owner, "lease_s": lease_s}
        )
        return None if row is None else row["memory"]

    async def save_loop(self, name: str, owner: str, memory: dict[str, Any]) -> bool:
        params = {"name": name, "owner": owner, "memory": _json(memory)}
        return bool(await self._db.execute(SQL.save_loop, params))

    async def leave_loop(self, name: str, owner: str) -> None:
        await self._db.execute(SQL.leave_loop, {"name": name, "owner": owner})

    async def oldest_open_payment(self) -> Any:
        row = await self._db.fetch_one(SQL.oldest_open_payment)
        return row["since"] if row else None


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def _fence(claim: Claim) -> dict[str, Any]:
    return {"job_id": claim.job_id, "owner": claim.owner, "attempt": claim.attempt}


def _open_payment(row: Row) -> OpenPayment:
    return OpenPayment(
        job_id=row["id"],
        state=JobState(row["state"]),
        blockchain_identifier=row["blockchain_identifier"],
        created_at=row["created_at"],
        pay_by_time_ms=row["pay_by_time_ms"],
    )


def _job(row: Row) -> Job:
    terms = None
    if row["blockchain_identifier"] is not None:
        terms = PaymentTerms(**{name: row[name] for name in PaymentTerms.__slots__})
    question = None
    if row["input_schema"] is not None:
        question = InputRequest(
            status_id=row["status_id"],
            schema=row["input_schema"],
            schema_hashes=frozenset(row["schema_hashes"]),
            expires_at=row["input_expires_at"],
        )
    return Job(
        id=row["id"],
        flow_uid=row["flow_uid"],
        flow_slug=row["flow_slug"],
        variant=row["variant"],
        free=row["free"],
        state=JobState(row["state"]),
        status_id=row["status_id"],
        identifier_from_purchaser=row["identifier_from_purchaser"],
        input_hash=row["input_hash"],
        payment=terms,
        result=row["result"],
        result_hash=row["result_hash"],
        failure=row["failure"],
        input_request=question,
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )
