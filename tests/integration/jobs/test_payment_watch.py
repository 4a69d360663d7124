"""What the payment service knows reaches the jobs, and nothing else decides."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

from scripts.sandbox import life
from scripts.sandbox.records import Record
from service.jobs.models import JobState
from service.payments.models import ChangePage, Watermark
from tests.support.house import AGENT, House
from tests.support.payments import new_order

PAST_EVERYTHING_S = 7200


async def awaiting_payment(home: House) -> UUID:
    job = (await home.start()).job
    assert job.state is JobState.AWAITING_PAYMENT
    return job.id


async def state_of(home: House, job_id: UUID) -> JobState:
    return (await home.job(job_id)).state


async def test_unpaid_job_waits(home: House) -> None:
    job_id = await awaiting_payment(home)
    await home.reconciler.changes()
    await home.make_due(job_id)
    await home.reconciler.checks()
    assert await state_of(home, job_id) is JobState.AWAITING_PAYMENT


async def test_wrong_funds_fail_the_job(home: House) -> None:
    job_id = await awaiting_payment(home)
    home.act(job_id, "invalidate")
    await home.reconciler.changes()
    assert await state_of(home, job_id) is JobState.FAILED


async def test_refund_asked_for_before_the_start_is_not_run_and_may_be_taken_back(
    home: House,
) -> None:
    job_id = await awaiting_payment(home)
    home.act(job_id, "lock")
    home.act(job_id, "request-refund")
    await home.reconciler.changes()
    assert await state_of(home, job_id) is JobState.AWAITING_PAYMENT
    home.act(job_id, "cancel-refund")
    await home.reconciler.changes()
    assert await state_of(home, job_id) is JobState.RUNNING


async def test_payment_the_feed_passed_over_is_found_by_the_single_check(home: House) -> None:
    job_id = await awaiting_payment(home)
    home.act(job_id, "lock")
    await home.make_due(job_id)
    await home.reconciler.checks()
    assert await state_of(home, job_id) is JobState.RUNNING


async def test_late_confirmation_within_the_grace_still_starts_the_job(home: House) -> None:
    job_id = await awaiting_payment(home)
    home.act(job_id, "lock")
    await home.sql(
        "UPDATE jobs SET pay_by_time_ms = %(past)s, due_at = now() WHERE id = %(id)s",
        id=job_id,
        past=home.sandbox.ledger.now_ms() - 60_000,
    )
    await home.reconciler.checks()
    assert await state_of(home, job_id) is JobState.RUNNING


async def test_silence_of_the_chain_fails_the_job_only_after_the_grace(home: House) -> None:
    job_id = await awaiting_payment(home)
    for overdue_s, expected in ((250, JobState.AWAITING_PAYMENT), (350, JobState.FAILED)):
        await home.sql(
            "UPDATE jobs SET pay_by_time_ms = %(past)s, due_at = now() WHERE id = %(id)s",
            id=job_id,
            past=home.sandbox.ledger.now_ms() - overdue_s * 1000,
        )
        await home.reconciler.checks()
        assert await state_of(home, job_id) is expected


async def test_chain_that_lags_behind_is_asked_again_not_believed(home: House) -> None:
    """The feed shows the funds, the single read not yet: no run on a contradiction."""
    job_id = await awaiting_payment(home)
    home.act(job_id, "lock")
    home.fault("POST /payment/resolve-blockchain-identifier", "stale", seconds=3600, times=1)
    await home.reconciler.changes()
    assert await state_of(home, job_id) is JobState.AWAITING_PAYMENT
    await home.reconciler.changes()
    assert await state_of(home, job_id) is JobState.RUNNING


async def test_feed_has_one_reader_until_its_lease_ends(home: House) -> None:
    job_id = await awaiting_payment(home)
    first, second = home.reconciler, home.another_reconciler()
    await first.changes()
    home.act(job_id, "lock")
    await second.changes()
    assert await state_of(home, job_id) is JobState.AWAITING_PAYMENT
    await first.leave_quietly()
    await second.changes()
    assert await state_of(home, job_id) is JobState.RUNNING


async def test_refund_after_no_result_is_noted_and_changes_nothing_else(home: House) -> None:
    job_id = await awaiting_payment(home)
    await home.pay(job_id)
    await home.run_all()
    home.sandbox.ledger.advance(PAST_EVERYTHING_S * 1000)
    await home.reconciler.changes()
    assert await state_of(home, job_id) is JobState.COMPLETED
    await home.make_due(job_id)
    await home.settler().tick()
    row = await home.services.database.fetch_one(
        "SELECT settlement, on_chain_state FROM jobs WHERE id = %(id)s", {"id": job_id}
    )
    assert row == {"settlement": "lost", "on_chain_state": "RefundWithdrawn"}


async def test_change_that_becomes_visible_late_is_not_passed_over(home: House) -> None:
    """The feed is ordered by time of change, and a change may be committed after a later one."""
    late = await awaiting_payment(home)
    early = (await home.start(input_data={"text": "Another text to be summarised."})).job.id
    ledger = home.sandbox.ledger
    ledger.advance(10_000)
    home.act(early, "lock")
    await home.reconciler.changes()
    assert await state_of(home, early) is JobState.RUNNING
    record = ledger.get(str(late))
    assert record is not None
    ledger.change(record, lambda r: life.lock(r, ledger.now_ms() - 2000))
    await home.reconciler.changes()
    assert await state_of(home, late) is JobState.RUNNING


async def test_feed_that_does_not_go_on_is_not_asked_without_end(home: House) -> None:
    await awaiting_payment(home)
    page = await home.services.gateway.changes(Watermark.at(datetime(2026, 1, 1, tzinfo=UTC)))
    stuck = replace(page, complete=False)

    class Stuck:
        async def changes(self, since: Watermark, limit: int = 100) -> ChangePage:
            return stuck

    home.reconciler._gateway = Stuck()  # type: ignore[assignment]
    assert await home.reconciler.changes()
    assert not await home.reconciler.changes()


async def with_a_second_payment(home: House) -> tuple[UUID, Record]:
    """A job with its payment, and one nobody asked for: a proxy has sent the create twice."""
    job_id = await awaiting_payment(home)
    [first] = home.payments_of(job_id)
    await home.services.gateway.create(new_order(job_id, agent_identifier=AGENT))
    [second] = (record for record in home.payments_of(job_id) if record is not first)
    return job_id, second


async def test_second_payment_that_is_never_paid_does_not_end_the_job(home: House) -> None:
    job_id, second = await with_a_second_payment(home)
    await home.pay(job_id)
    assert await state_of(home, job_id) is JobState.RUNNING
    ledger = home.sandbox.ledger
    ledger.change(second, lambda record: life.invalidate(record, ledger.now_ms()))
    await home.reconciler.changes()
    assert await state_of(home, job_id) is JobState.RUNNING


async def test_funds_in_a_second_payment_start_nothing(home: House) -> None:
    job_id, second = await with_a_second_payment(home)
    ledger = home.sandbox.ledger
    ledger.change(second, lambda record: life.lock(record, ledger.now_ms()))
    await home.reconciler.changes()
    assert await state_of(home, job_id) is JobState.AWAITING_PAYMENT
