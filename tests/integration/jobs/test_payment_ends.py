"""Payments that end otherwise than paid in time: refunded, rolled back, or late."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from uuid import UUID

import pytest
from structlog.testing import capture_logs

from service.errors import PaymentOutcomeUnknown
from service.jobs.inspection import Inspection, census
from service.jobs.models import JobState
from tests.support.house import AGENT, House
from tests.support.payments import new_order

PAST_EVERYTHING_S = 7200


async def awaiting_payment(home: House) -> UUID:
    return (await home.start()).job.id


async def failure_of(home: House, job_id: UUID) -> str | None:
    dossier = await Inspection(home.services.database).dossier(job_id)
    assert dossier is not None
    return dossier.failure_code if dossier.state is JobState.FAILED else None


async def unpaid_in_our_eyes(home: House, job_id: UUID) -> None:
    """The time to pay and its grace are over by our clock, and the chain has shown nothing."""
    await home.reconciler.changes()
    await home.sql(
        "UPDATE jobs SET pay_by_time_ms = %(past)s, due_at = now() WHERE id = %(id)s",
        id=job_id,
        past=home.sandbox.ledger.now_ms() - 350_000,
    )
    await home.reconciler.checks()
    assert await failure_of(home, job_id) == "payment-missing"


async def test_refund_before_the_run_that_goes_through_fails_the_job(home: House) -> None:
    job_id = await awaiting_payment(home)
    home.act(job_id, "lock")
    home.act(job_id, "request-refund")
    home.sandbox.ledger.advance(PAST_EVERYTHING_S * 1000)
    await home.reconciler.changes()
    assert await failure_of(home, job_id) == "payment-refunded"


async def test_refund_that_never_ends_does_not_keep_the_job_waiting_for_ever(home: House) -> None:
    job_id = await awaiting_payment(home)
    home.act(job_id, "lock")
    home.act(job_id, "request-refund")
    await home.make_due(job_id)
    await home.reconciler.checks()
    assert await failure_of(home, job_id) is None
    soon_ms = home.sandbox.ledger.now_ms() + 290_000
    await home.sql("UPDATE jobs SET submit_result_time_ms = %(at)s, due_at = now()", at=soon_ms)
    await home.reconciler.checks()
    assert await failure_of(home, job_id) == "payment-refunded"


async def test_funds_the_chain_forgets_come_back_or_stop_the_job(home: House) -> None:
    job_id = await awaiting_payment(home)
    await home.pay(job_id)
    [claim] = await home.services.repository.claim_runs("worker", most=1)
    home.act(job_id, "rollback")
    await home.reconciler.changes()
    assert (await home.job(job_id)).state is JobState.RUNNING
    home.act(job_id, "invalidate")
    await home.reconciler.changes()
    assert await failure_of(home, job_id) == "payment-withdrawn"
    # Whoever runs it is told at the next renewal, and writes nothing any more.
    assert await home.services.repository.renew("worker", [job_id]) == frozenset()
    assert not await home.services.repository.complete(claim, "result", "00" * 32)


async def test_late_payment_is_an_alarm_once_and_stays_visible(home: House) -> None:
    job_id = await awaiting_payment(home)
    await unpaid_in_our_eyes(home, job_id)
    before = await home.job(job_id)
    home.act(job_id, "lock")
    with capture_logs() as lines:
        for _ in range(3):
            await home.reconciler.changes()
    alarms = [line for line in lines if line["event"] == "late_payment"]
    assert [(line["job_id"], line["log_level"]) for line in alarms] == [(str(job_id), "error")]
    dossier = await Inspection(home.services.database).dossier(job_id)
    assert dossier is not None
    assert (dossier.state, dossier.paid_late) == (JobState.FAILED, True)
    events = await home.services.repository.events(job_id)
    assert [event.cause for event in events][-2:] == ["payment-missing", "late-payment"]
    # To the purchaser nothing has changed.
    after = await home.job(job_id)
    assert (after.status_id, after.state) == (before.status_id, before.state)
    seen = await census(home.services.database, home.services.repository)
    assert (seen.late_paid, seen.lost, seen.open) == (1, 0, ())


async def test_payment_found_after_its_intent_was_given_up_is_late_too(
    make_house: Callable[..., Awaitable[House]],
) -> None:
    """The payment service took it in after we had stopped looking, and no other job waits."""
    home = await make_house(breaker={"failure_threshold": 100})
    home.fault("POST /payment", "reset", times=1)
    home.fault("GET /payment", "reset")
    with pytest.raises(PaymentOutcomeUnknown):
        await home.start()
    home.sandbox.faults.clear()
    await home.reconciler.changes()  # nothing yet, and remembered
    await home.sql("UPDATE jobs SET created_at = now() - interval '1 hour', due_at = now()")
    await home.reconciler.checks()
    [row] = await home.services.database.fetch("SELECT id FROM jobs")
    job_id: UUID = row["id"]
    assert await failure_of(home, job_id) == "payment-not-made"

    await home.services.gateway.create(new_order(job_id, agent_identifier=AGENT))
    home.act(job_id, "lock")
    with capture_logs() as lines:
        await home.reconciler.changes()
    assert [x["job_id"] for x in lines if x["event"] == "late_payment"] == [str(job_id)]


async def test_of_two_who_notice_a_late_payment_one_calls(home: House) -> None:
    job_id = await awaiting_payment(home)
    await unpaid_in_our_eyes(home, job_id)
    noted = await asyncio.gather(
        *(home.services.repository.note_late_payment(job_id, "ff", "FundsLocked") for _ in "ab")
    )
    assert sorted(noted) == [False, True]


async def test_funds_that_stay_when_the_run_failed_are_no_late_payment(home: House) -> None:
    job_id = await awaiting_payment(home)
    await home.pay(job_id)
    [claim] = await home.services.repository.claim_runs("worker", most=1)
    assert await home.services.repository.fail(claim, "no-data", "Nothing there.")
    home.act(job_id, "request-refund")
    with capture_logs() as lines:
        await home.reconciler.changes()
    assert [line for line in lines if line["event"] == "late_payment"] == []
    seen = await census(home.services.database, home.services.repository)
    assert seen.late_paid == 0


async def test_census_counts_what_is_open_by_state_and_age(home: House) -> None:
    first = await awaiting_payment(home)
    await home.sql("UPDATE jobs SET updated_at = now() - interval '1 hour'")
    (await home.start("echo+free")).job  # noqa: B018
    await home.start(input_data={"text": "second"})
    seen = await census(home.services.database, home.services.repository)
    assert [(crowd.state, crowd.jobs) for crowd in seen.open] == [
        (JobState.AWAITING_PAYMENT, 2),
        (JobState.RUNNING, 1),
    ]
    assert 3600 <= seen.open[0].oldest_s < 3900
    assert seen.open[1].oldest_s < 300
    await home.pay(first)
    await home.run_all()
    seen = await census(home.services.database, home.services.repository)
    assert seen.settlement.waiting == 1
    assert seen.settlement.tightest_s is not None
    assert 3000 < seen.settlement.tightest_s < 3601
