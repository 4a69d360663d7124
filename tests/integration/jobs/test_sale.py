"""A job from its purchase to its settlement, on real servers."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from uuid import uuid4

import pytest

from scripts.sandbox import ledger, life
from service.errors import ConstraintViolated, InvalidInput, UnknownJob
from service.jobs.models import Job, JobState
from service.mip.hashing import input_hash, result_hash
from tests.support.house import AGENT, IDENTIFIER, TEXT, House, flow_definition

MakeHouse = Callable[..., Awaitable[House]]


async def history(home: House, job: Job) -> list[str]:
    return [event.state for event in await home.services.repository.events(job.id)]


async def settle(home: House, job: Job) -> str:
    """Settle until nothing is left to do; what became of it."""
    for _ in range(6):
        await home.make_due(job.id)
        await home.settler().tick()
        await asyncio.sleep(0.05)  # the sandbox's chain takes 20 ms
    row = await home.services.database.fetch_one(
        "SELECT settlement FROM jobs WHERE id = %(id)s", {"id": job.id}
    )
    assert row is not None
    return str(row["settlement"])


async def test_paid_job_goes_from_purchase_to_settled_result(home: House) -> None:
    started = await home.start()
    job = started.job
    assert job.state is JobState.AWAITING_PAYMENT
    assert job.input_hash == input_hash(IDENTIFIER, {"text": TEXT})

    await home.pay(job.id)
    assert (await home.job(job.id)).state is JobState.RUNNING
    await home.run_all()
    done = await home.job(job.id)

    assert done.state is JobState.COMPLETED
    assert done.result
    assert done.result_hash == result_hash(IDENTIFIER, done.result, "escaped")
    assert await settle(home, job) == "settled"
    [payment] = home.payments_of(job.id)
    assert payment.submitted == [done.result_hash]
    assert payment.now.state == "ResultSubmitted"
    assert await history(home, job) == ["creating", "awaiting_payment", "running", "completed"]


async def test_terms_are_the_payment_services_own_verbatim(home: House) -> None:
    terms = (await home.start()).job.payment
    assert terms is not None
    [record] = home.sandbox.ledger.oldest()
    assert terms.blockchain_identifier == record.blockchain_identifier
    assert terms.agent_identifier == AGENT
    assert terms.seller_vkey
    assert (
        terms.pay_by_time_ms,
        terms.submit_result_time_ms,
        terms.unlock_time_ms,
        terms.external_dispute_unlock_time_ms,
    ) == (
        record.terms.pay_by_ms,
        record.terms.submit_result_ms,
        record.terms.unlock_ms,
        record.terms.dispute_ms,
    )


async def test_identifiers_may_be_as_long_as_the_payment_service_makes_them(
    home: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "seal", lambda _: secrets.token_hex(4000))
    job_id = (await home.start()).job.id
    await home.pay(job_id)
    assert (await home.job(job_id)).state is JobState.RUNNING


async def test_one_payment_is_never_that_of_two_jobs(home: House) -> None:
    one, two = [(await home.start(input_data={"text": text})).job for text in ("one.", "two.")]
    assert one.payment is not None
    with pytest.raises(ConstraintViolated):
        await home.sql(
            "UPDATE jobs SET blockchain_identifier = %(taken)s WHERE id = %(id)s",
            id=two.id,
            taken=one.payment.blockchain_identifier,
        )


async def test_free_job_runs_without_any_payment(home: House) -> None:
    started = await home.start("echo+free")
    assert started.job.state is JobState.RUNNING
    await home.run_all()
    done = await home.job(started.job.id)
    assert done.state is JobState.COMPLETED
    assert done.payment is None
    assert len(home.sandbox.ledger) == 0
    assert await history(home, done) == ["running", "completed"]


async def test_status_id_stays_between_polls_and_changes_with_each_state(home: House) -> None:
    job = (await home.start()).job
    assert (await home.job(job.id)).status_id == job.status_id
    seen = [job.status_id]
    await home.pay(job.id)
    seen.append((await home.job(job.id)).status_id)
    await home.run_all()
    seen.append((await home.job(job.id)).status_id)
    assert len(set(seen)) == 3
    events = await home.services.repository.events(job.id)
    assert [event.id for event in events][1:] == seen


async def test_invalid_input_is_refused_before_anything_is_written(home: House) -> None:
    with pytest.raises(InvalidInput) as refused:
        await home.start(input_data={"text": 7}, identifier_from_purchaser="not-hex")
    assert {error.pointer for error in refused.value.errors} == {
        "/identifier_from_purchaser",
        "/input_data/text",
    }
    row = await home.services.database.fetch_one("SELECT count(*) AS jobs FROM jobs")
    assert row == {"jobs": 0}
    assert len(home.sandbox.ledger) == 0


@pytest.mark.parametrize("text", ["a\x00b", "a\ud800b"], ids=["nul", "half-a-character"])
async def test_identifier_that_cannot_be_stored_is_refused_for_free_flows_too(
    home: House, text: str
) -> None:
    with pytest.raises(InvalidInput) as refused:
        await home.start("echo+free", identifier_from_purchaser=text)
    assert [error.pointer for error in refused.value.errors] == ["/identifier_from_purchaser"]


async def test_job_of_another_flow_is_unknown(make_house: MakeHouse) -> None:
    home = await make_house(flow_definition("one"), flow_definition("two"))
    job = (await home.start("one+free")).job
    other, _ = await home.services.catalog.get("two")
    with pytest.raises(UnknownJob):
        await home.services.lifecycle.get(job.id, flow_uid=other.uid)
    with pytest.raises(UnknownJob):
        await home.services.lifecycle.get(uuid4())


async def test_submission_stuck_upstream_is_recovered(home: House) -> None:
    job = (await home.start()).job
    await home.pay(job.id)
    await home.run_all()
    home.fault("POST /payment/submit-result", "interrupt", times=1)
    assert await settle(home, job) == "settled"
    [payment] = home.payments_of(job.id)
    assert payment.now.state == "ResultSubmitted"


async def test_lost_answer_to_submission_leads_to_one_result(home: House) -> None:
    job = (await home.start()).job
    await home.pay(job.id)
    await home.run_all()
    home.fault("POST /payment/submit-result", "reset", when="after", times=1)
    assert await settle(home, job) == "settled"
    [payment] = home.payments_of(job.id)
    assert len(payment.submitted) == 1


async def test_result_of_somebody_else_on_the_chain_does_not_settle_ours(home: House) -> None:
    job = (await home.start()).job
    await home.pay(job.id)
    [record] = home.payments_of(job.id)
    ledger = home.sandbox.ledger
    ledger.change(record, lambda r: life.submit(r, "ff" * 32, ledger.now_ms(), ledger.pace))
    await home.run_all()
    assert await settle(home, job) != "settled"
    assert record.now.result_hash == "ff" * 32
