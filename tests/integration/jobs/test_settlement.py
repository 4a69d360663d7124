"""Results reach the chain in time or are not begun; the stuck are recovered, not for ever."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from structlog.testing import capture_logs

from scripts.sandbox import life
from service.errors import PaymentUnavailable
from service.jobs.models import JobState
from service.jobs.outbox import MOST_RECOVERIES, Outlook
from tests.support.house import House

MakeHouse = Callable[..., Awaitable[House]]
SUBMIT = "POST /payment/submit-result"
RESOLVE = "POST /payment/resolve-blockchain-identifier"
RECOVER = "POST /payment/error-state-recovery"


async def paid(home: House, text: str = "Rain falls.") -> UUID:
    """A job that is to be run."""
    job_id = (await home.start(input_data={"text": text})).job.id
    await home.pay(job_id)
    return job_id


async def waiting(home: House, text: str) -> UUID:
    """A job whose result waits for the chain."""
    job_id = await paid(home, text)
    await home.run_all()
    return job_id


async def row(home: House, job_id: UUID) -> dict[str, Any]:
    found = await home.services.database.fetch_one(
        "SELECT *, now() AS seen_at FROM jobs WHERE id = %(id)s", {"id": job_id}
    )
    assert found is not None
    return found


async def settle(home: House, job_id: UUID, *, looks: int = 4) -> str:
    for _ in range(looks):
        await home.make_due(job_id)
        await home.settler().tick()
        await asyncio.sleep(0.05)  # the sandbox's chain takes 20 ms
    return str((await row(home, job_id))["settlement"])


async def claimed_deadline(home: House, job_id: UUID) -> datetime:
    [claim] = await home.services.repository.claim_runs("worker", most=1)
    assert claim.job_id == job_id
    return claim.run_deadline


class TestMargin:
    async def test_run_ends_before_the_payment_service_closes(self, home: House) -> None:
        job_id = await paid(home)
        terms = (await home.job(job_id)).payment
        assert terms is not None
        ends = await claimed_deadline(home, job_id)
        assert terms.submit_result_time_ms / 1000 - ends.timestamp() == pytest.approx(420)

    async def test_margin_grows_with_what_waits_for_the_same_wallet(self, home: House) -> None:
        for text in ("one.", "two.", "three."):
            await waiting(home, text)
        job_id = await paid(home)
        before = (await row(home, job_id))["run_deadline"]
        assert before - await claimed_deadline(home, job_id) == timedelta(seconds=3 * 60)

    async def test_margin_is_bounded(self, make_house: MakeHouse) -> None:
        home = await make_house(jobs={"settle_queue": 90.0})
        for text in ("one.", "two.", "three."):
            await waiting(home, text)
        job_id = await paid(home)
        before = (await row(home, job_id))["run_deadline"]
        assert before - await claimed_deadline(home, job_id) == timedelta(seconds=90)

    @pytest.mark.parametrize(
        "change",
        [
            "seller_vkey = 'another'",
            "payment_source_type = 'Web3CardanoV2'",
            "submit_result_time_ms = extract(epoch FROM now()) * 1000 - 1",
        ],
    )
    async def test_results_that_are_in_nobodys_way_do_not_count(
        self, home: House, change: str
    ) -> None:
        other = await waiting(home, "one.")
        await home.sql(f"UPDATE jobs SET {change} WHERE id = %(id)s", id=other)
        job_id = await paid(home)
        before = (await row(home, job_id))["run_deadline"]
        assert await claimed_deadline(home, job_id) == before

    async def test_free_jobs_do_not_wait_for_the_chain(self, make_house: MakeHouse) -> None:
        home = await make_house(jobs={"settle_each": 3600.0, "settle_queue": 86400.0})
        await waiting(home, "one.")
        free = (await home.start("echo+free")).job.id
        await home.run_all()
        assert (await home.job(free)).state is JobState.COMPLETED

    async def test_run_that_cannot_be_settled_any_more_is_not_begun_until_the_queue_is_gone(
        self, make_house: MakeHouse
    ) -> None:
        home = await make_house(jobs={"settle_each": 3600.0, "settle_queue": 86400.0})
        first = await waiting(home, "one.")
        second = await paid(home)
        await home.run_all()
        assert (await row(home, second))["run_attempts"] == 0
        assert await settle(home, first) == "settled"
        await home.run_all()
        assert (await home.job(second)).state is JobState.COMPLETED

    async def test_run_that_was_never_begun_in_time_is_failed(self, home: House) -> None:
        job_id = await paid(home)
        await home.sql("UPDATE jobs SET run_deadline = now() - interval '1 s'")
        await home.run_all()
        await home.services.runs.expire()
        job = await home.job(job_id)
        assert (job.state, job.failure) == (
            JobState.FAILED,
            "The run could not be finished in time.",
        )

    async def test_result_that_comes_too_late_is_failed_not_promised(self, home: House) -> None:
        job_id = await paid(home)
        soon_ms = home.sandbox.ledger.now_ms() + 290_000  # the service closes 300 s before
        await home.sql("UPDATE jobs SET submit_result_time_ms = %(at)s", at=soon_ms)
        await home.run_all()
        found = await row(home, job_id)
        assert (found["state"], found["failure_code"]) == ("failed", "result-too-late")
        assert (found["settlement"], found["result"]) == ("none", None)


class TestRecovery:
    async def test_recoveries_end_and_a_person_is_called(self, home: House) -> None:
        job_id = await waiting(home, "one.")
        home.fault(SUBMIT, "interrupt")
        with capture_logs() as lines:
            assert await settle(home, job_id, looks=2 * MOST_RECOVERIES + 3) == "due"
        assert home.sandbox.calls[RECOVER] == MOST_RECOVERIES
        assert "settlement_needs_a_hand" in {line["event"] for line in lines}
        assert (await row(home, job_id))["due_at"] > (await row(home, job_id))["seen_at"]
        outlook = await home.services.repository.outbox.outlook()
        assert (outlook.waiting, outlook.stuck) == (1, 1)

        home.sandbox.faults.clear()
        [record] = home.payments_of(job_id)
        ledger = home.sandbox.ledger
        ledger.change(record, lambda r: life.recover(r, ledger.now_ms(), ledger.pace, again=True))
        assert await settle(home, job_id) == "settled"
        assert await home.services.repository.outbox.outlook() == Outlook(0, 0, None)

    async def test_result_the_chain_forgets_is_brought_there_again(self, home: House) -> None:
        job_id = await waiting(home, "one.")
        assert await settle(home, job_id) == "settled"
        home.act(job_id, "rollback")
        await home.reconciler.changes()
        assert (await row(home, job_id))["settlement"] == "due"
        assert await settle(home, job_id) == "settled"
        [record] = home.payments_of(job_id)
        assert (record.now.state, len(set(record.submitted))) == ("ResultSubmitted", 1)
        assert len(record.submitted) == 2

    async def test_refund_asked_for_while_it_runs_is_answered_with_the_result(
        self, home: House
    ) -> None:
        job_id = await paid(home)
        home.act(job_id, "request-refund")
        await home.reconciler.changes()
        assert (await home.job(job_id)).state is JobState.RUNNING
        await home.run_all()
        assert await settle(home, job_id) == "settled"
        found = await row(home, job_id)
        assert found["on_chain_state"] == "Disputed"

    async def test_refund_after_the_settlement_is_noted_and_not_undone(self, home: House) -> None:
        job_id = await waiting(home, "one.")
        assert await settle(home, job_id) == "settled"
        home.act(job_id, "request-refund")
        [record] = home.payments_of(job_id)
        ledger = home.sandbox.ledger
        ledger.change(record, lambda r: life.authorize_refund(r, ledger.now_ms(), ledger.pace))
        ledger.advance(60_000)
        await home.reconciler.changes()
        found = await row(home, job_id)
        assert (found["settlement"], found["on_chain_state"]) == ("settled", "RefundRequested")
        assert len(record.submitted) == 1

    async def test_outage_in_the_middle_puts_the_rest_off_for_a_moment_only(
        self, home: House
    ) -> None:
        for text in ("one.", "two."):
            await waiting(home, text)
        home.fault(RESOLVE, "status", status=500)
        await home.sql("UPDATE jobs SET due_at = now()")
        with pytest.raises(PaymentUnavailable):
            await home.settler().tick()
        late = await home.services.database.fetch(
            "SELECT id FROM jobs WHERE due_at > now() + interval '10 s'"
        )
        assert late == []

    @pytest.mark.parametrize("answer", [404, 400])
    async def test_result_whose_payment_is_gone_is_not_asked_for_for_ever(
        self, home: House, answer: int
    ) -> None:
        job_id = await waiting(home, "one.")
        home.fault(RESOLVE, "status", status=answer)
        assert await settle(home, job_id, looks=1) == "due"
        await home.sql("UPDATE jobs SET submit_result_time_ms = 0")
        assert await settle(home, job_id, looks=1) == "lost"

    async def test_refused_key_loses_no_result(self, home: House) -> None:
        job_id = await waiting(home, "one.")
        home.fault(RESOLVE, "status", status=401)
        await home.sql("UPDATE jobs SET submit_result_time_ms = 0")
        assert await settle(home, job_id, looks=1) == "due"
