"""What the same request gets while its first is at work, and many answers at the same moment."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from uuid import UUID

import pytest

from service.errors import (
    NotAwaitingInput,
    PaymentOutcomeUnknown,
    PaymentUnavailable,
    RequestInProgress,
)
from service.jobs.lifecycle import LOOK_S, USUAL_START_S
from service.jobs.models import Job, ProvidedInput
from service.jobs.reconciler import CHECK_AGAIN_S
from service.jobs.repository import SOON_S
from service.mip.hashing import schema_hashes
from tests.support.house import House
from tests.support.waiting import until

MakeHouse = Callable[..., Awaitable[House]]
CREATE, LIST = "POST /payment", "GET /payment"
SCHEMA = {"input_data": [{"id": "colour", "type": "text", "name": "Colour"}]}


async def retry_after_s(home: House) -> float:
    with pytest.raises(RequestInProgress) as refused:
        await home.start(idempotency_key="k")
    return refused.value.retry_after_s


async def test_while_the_first_is_at_work_its_end_is_near(home: House) -> None:
    home.fault(CREATE, "latency", seconds=3.0, times=1)
    first = asyncio.create_task(home.start(idempotency_key="k"))
    await until(lambda: home.sandbox.calls[CREATE] == 1)
    assert await retry_after_s(home) == USUAL_START_S
    await first
    assert (await home.start(idempotency_key="k")).replayed


async def test_while_the_outcome_is_unknown_the_next_look_is_named(make_house: MakeHouse) -> None:
    home = await make_house(breaker={"failure_threshold": 100})
    home.fault(CREATE, "reset", when="after", times=1)
    home.fault(LIST, "reset")
    with pytest.raises(PaymentOutcomeUnknown):
        await home.start(idempotency_key="k")
    # Of the look that is taken soon, and not the usual time of a request at work.
    assert LOOK_S <= await retry_after_s(home) <= SOON_S + LOOK_S
    assert await retry_after_s(home) != USUAL_START_S
    [row] = await home.services.database.fetch("SELECT id FROM jobs")
    await home.make_due(row["id"])
    with pytest.raises(PaymentUnavailable):
        await home.reconciler.checks()
    assert SOON_S + LOOK_S < await retry_after_s(home) <= CHECK_AGAIN_S + LOOK_S
    home.sandbox.faults.clear()
    await home.make_due(row["id"])
    await home.reconciler.checks()
    assert (await home.start(idempotency_key="k")).replayed


async def asking(home: House) -> Job:
    """A job that waits for an answer."""
    job_id = (await home.start("echo+free")).job.id
    [claim] = await home.services.repository.claim_runs("worker", most=1)
    assert await home.services.repository.ask(
        claim, "q1", SCHEMA, schema_hashes(SCHEMA), wait_s=600.0
    )
    return await home.job(job_id)


async def answer(home: House, job: Job, colour: str) -> ProvidedInput | NotAwaitingInput:
    try:
        return await home.services.lifecycle.provide_input(
            job.id,
            flow_uid=None,
            status_id=str(job.status_id),
            input_schema_hash=None,
            input_data={"colour": colour},
        )
    except NotAwaitingInput as refused:
        return refused


async def transitions(home: House, job_id: UUID) -> int:
    events = await home.services.repository.events(job_id)
    return sum(event.cause == "input-provided" for event in events)


async def test_fifty_same_answers_at_once_are_one(home: House) -> None:
    job = await asking(home)
    receipts = await asyncio.gather(*(answer(home, job, "red") for _ in range(50)))
    assert len(set(receipts)) == 1
    assert isinstance(receipts[0], ProvidedInput)
    assert await transitions(home, job.id) == 1


async def test_fifty_different_answers_at_once_let_one_through(home: House) -> None:
    job = await asking(home)
    receipts = await asyncio.gather(*(answer(home, job, f"c{i}") for i in range(50)))
    taken = [receipt for receipt in receipts if isinstance(receipt, ProvidedInput)]
    assert len(taken) == 1
    assert await transitions(home, job.id) == 1
    [claim] = await home.services.repository.claim_runs("worker", most=1)
    [(_, given)] = claim.answers
    assert receipts.index(taken[0]) == int(given["colour"].removeprefix("c"))


async def test_answer_after_the_time_for_it_is_refused_as_late(home: House) -> None:
    job = await asking(home)
    await home.sql("UPDATE jobs SET due_at = now() - interval '1 s'")
    refused = await answer(home, job, "red")
    assert isinstance(refused, NotAwaitingInput)
    assert refused.message == "The time to answer this question is over."
    assert await transitions(home, job.id) == 0
