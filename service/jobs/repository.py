"""Jobs in PostgreSQL: each method is one statement of queries.sql, or one transaction of them.

A method that changes a state says by its result whether it was this caller who changed it: False
means that another worker was first, and nothing was written.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from service.database import Database, Transaction, load_queries
from service.errors import ConstraintViolated, PaymentRejected
from service.jobs.models import (
    Claim,
    Job,
    JobEvent,
    JobState,
    KeyRecord,
    NewJob,
    OpenPayment,
    PaymentTerms,
    Status,
)
from service.jobs.outbox import CLOSES_S, Outbox
from service.jobs.rows import job, open_payment, origin, status
from service.settings import JobSettings

SQL = load_queries("service.jobs")

#: How soon after it is made another look is taken at an intent or an unpaid job: long enough for
#: the usual way (the request itself, the change feed) to have dealt with it.
INTENT_CHECK_S = 35.0
PAYMENT_CHECK_S = 60.0
#: A request that ended without knowing what became of its payment call is looked after this soon.
SOON_S = 5.0
#: Runs that were lost so often are suspected of killing their workers, and begun one at a time.
SUSPECT_AFTER = 2


class JobRepository:
    def __init__(self, database: Database, settings: JobSettings) -> None:
        self._db = database
        self._settings = settings
        self.outbox = Outbox(database, SQL)

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
                    "request_id": new.origin.request_id,
                    "traceparent": new.origin.traceparent,
                },
            )
        return None

    async def key_holder(self, new: NewJob) -> KeyRecord | None:
        """What the job's idempotency key stands for already."""
        if new.key is None:
            return None
        row = await self._db.fetch_one(SQL.find_key, {"scope": new.key_scope, "key": new.key})
        return None if row is None else KeyRecord(row["fingerprint"], row["job_id"])

    @staticmethod
    async def _key_holder(tx: Transaction, new: NewJob) -> KeyRecord:
        row = await tx.fetch_one(SQL.find_key, {"scope": new.key_scope, "key": new.key})
        if row is None:  # released between the two statements: the same as still in progress
            return KeyRecord(new.fingerprint, new.id)
        return KeyRecord(row["fingerprint"], row["job_id"])

    async def abandon(self, job_id: UUID, code: str, failure: str) -> bool:
        params = {"job_id": job_id, "code": code, "failure": failure}
        return bool(await self._db.execute(SQL.abandon_intent, params))

    async def look_soon(self, job_id: UUID) -> None:
        """Have an intent whose request ended without knowing looked at before the usual time."""
        await self._db.execute(SQL.look_soon, {"job_id": job_id, "in_s": SOON_S})

    async def next_look_s(self, job_id: UUID) -> float | None:
        """Until an intent is looked at; None while its own request may still find out."""
        params = {"job_id": job_id, "first_check_s": INTENT_CHECK_S}
        row = await self._db.fetch_one(SQL.next_look, params)
        if row is None or (row["untouched"] and row["left_s"] > 0):
            return None
        return max(0.0, float(row["left_s"]))

    async def attach(self, job_id: UUID, terms: PaymentTerms, cause: str) -> bool:
        """Raises PaymentRejected for a payment that is another job's."""
        params = {
            "job_id": job_id,
            "cause": cause,
            "check_in_s": PAYMENT_CHECK_S,
            "settle_margin_s": self._settings.settle_margin,
            **{name: getattr(terms, name) for name in PaymentTerms.__slots__},
        }
        try:
            return bool(await self._db.execute(SQL.attach_payment, params))
        except ConstraintViolated as error:
            raise PaymentRejected("The payment service gave the payment of another job.") from error

    # --- read -------------------------------------------------------------------------------

    async def get(self, job_id: UUID) -> Job | None:
        row = await self._db.fetch_one(SQL.get_job, {"job_id": job_id})
        return None if row is None else job(row)

    async def statuses(self, job_ids: Sequence[UUID]) -> dict[UUID, Status]:
        """What is to be told of those of them that exist, by job."""
        params = {"job_ids": [str(job_id) for job_id in job_ids]}
        rows = await self._db.fetch(SQL.read_statuses, params)
        return {row["id"]: status(row) for row in rows}

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
        return tuple(open_payment(row) for row in rows)

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
        return tuple(open_payment(row) for row in rows)

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

    async def fail_withdrawn(
        self, job_id: UUID, code: str, failure: str, on_chain_state: str | None
    ) -> bool:
        """End a job under way whose funds have gone; its run finds its lease lost."""
        params = {
            "job_id": job_id,
            "code": code,
            "failure": failure,
            "on_chain_state": on_chain_state,
        }
        return bool(await self._db.execute(SQL.fail_withdrawn, params))

    async def note_late_payment(
        self, job_id: UUID, blockchain_identifier: str, on_chain_state: str | None
    ) -> bool:
        """Funds for a job that had failed unpaid; True for the first to notice."""
        params = {
            "job_id": job_id,
            "blockchain_identifier": blockchain_identifier,
            "on_chain_state": on_chain_state,
        }
        return bool(await self._db.execute(SQL.note_late_payment, params))

    async def note_chain_state(self, job_id: UUID, on_chain_state: str | None) -> None:
        params = {"job_id": job_id, "on_chain_state": on_chain_state}
        await self._db.execute(SQL.note_chain_state, params)

    # --- run --------------------------------------------------------------------------------

    async def claim_runs(self, owner: str, *, most: int, suspects: int = 1) -> tuple[Claim, ...]:
        """At most ``most`` runs, of which at most ``suspects`` were lost several times before."""
        rows = await self._db.fetch(
            SQL.claim_runs,
            {
                "owner": owner,
                "most": most,
                "most_suspects": min(most, suspects),
                "suspect_after": SUSPECT_AFTER,
                "most_lost": self._settings.lost_runs,
                "lease_s": self._settings.lease_seconds,
                "queue_each_s": self._settings.settle_each,
                "queue_limit_s": self._settings.settle_queue,
            },
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
                lost_runs=row["lost_runs"],
                failed_runs=row["failed_runs"],
                origin=origin(row),
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

    async def release(self, claim: Claim, *, again_in_s: float, failed: bool = False) -> bool:
        """Give the run back; ``failed``: its runner said so, and may say something else later."""
        params = {**_fence(claim), "again_in_s": again_in_s, "failed": failed}
        return bool(await self._db.execute(SQL.release_run, params))

    async def complete(self, claim: Claim, result: str, result_hash: str) -> bool:
        """False when the claim was lost, or the result is too late to be settled."""
        params = {
            **_fence(claim),
            "result": result,
            "result_hash": result_hash,
            "closes_s": CLOSES_S,
        }
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
        expired += await self._db.execute(
            SQL.fail_lost_runs, {"most_lost": self._settings.lost_runs}
        )
        await self._db.execute(SQL.purge_keys)
        return expired

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
