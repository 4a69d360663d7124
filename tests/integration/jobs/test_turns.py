"""A job that the payment service always fails at holds up none of the others."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

import pytest

from service.errors import PaymentUnavailable
from service.jobs.models import JobState
from service.jobs.settlement import Settler
from service.payments.models import Payment
from tests.support.house import House

MakeHouse = Callable[..., Awaitable[House]]


TEXTS = ("Rain falls.", "Bees fly.", "Trees grow.")


class FailsAt:
    """The gateway, to a payment service that answers 500 for one payment."""

    def __init__(self, home: House, blockchain_identifier: str) -> None:
        self._gateway: Any = home.services.gateway
        self._sick = blockchain_identifier

    def __getattr__(self, name: str) -> Any:
        return getattr(self._gateway, name)

    async def resolve(self, blockchain_identifier: str) -> Payment | None:
        if blockchain_identifier == self._sick:
            raise PaymentUnavailable
        found: Payment | None = await self._gateway.resolve(blockchain_identifier)
        return found


async def identifier(home: House, job_id: UUID) -> str:
    payment = (await home.job(job_id)).payment
    assert payment is not None
    return payment.blockchain_identifier


async def three_jobs(home: House) -> list[UUID]:
    return [(await home.start(input_data={"text": text})).job.id for text in TEXTS]


async def rounds(home: House, tick: Callable[[], Awaitable[bool]], *, count: int) -> None:
    """So many ticks, to each of which every job is due."""
    for _ in range(count):
        await home.sql("UPDATE jobs SET due_at = now()")
        try:
            await tick()
        except PaymentUnavailable:
            continue


async def test_settlement_that_always_fails_lets_the_others_pass(home: House) -> None:
    jobs = await three_jobs(home)
    for job_id in jobs:
        await home.pay(job_id)
    await home.run_all()
    # The one that fails is the most urgent.
    await home.sql(
        "UPDATE jobs SET submit_result_time_ms = submit_result_time_ms - 1000 WHERE id = %(id)s",
        id=jobs[0],
    )
    gateway = FailsAt(home, await identifier(home, jobs[0]))
    settler = Settler(home.services.repository, gateway, metrics=home.services.metrics)
    await rounds(home, settler.tick, count=4)
    assert [len(home.payments_of(job_id)[0].submitted) for job_id in jobs] == [0, 1, 1]


@pytest.mark.parametrize("sick", [0, 1, 2])
async def test_check_that_always_fails_lets_the_others_pass(home: House, sick: int) -> None:
    jobs = await three_jobs(home)
    for job_id in jobs:
        home.act(job_id, "lock")
    home.reconciler._gateway = FailsAt(home, await identifier(home, jobs[sick]))
    await rounds(home, home.reconciler.checks, count=4)
    states = [(await home.job(job_id)).state for job_id in jobs]
    assert states.count(JobState.RUNNING) == 2
    assert states[sick] is JobState.AWAITING_PAYMENT


async def test_settlement_that_fails_is_looked_at_more_and_more_rarely(home: House) -> None:
    [job_id, *_] = await three_jobs(home)
    await home.pay(job_id)
    await home.run_all()
    gateway = FailsAt(home, await identifier(home, job_id))
    settler = Settler(home.services.repository, gateway, metrics=home.services.metrics)
    await home.sql("UPDATE jobs SET settlement_attempts = 60")
    with pytest.raises(PaymentUnavailable):
        await settler.tick()
    [row] = await home.services.database.fetch(
        "SELECT due_at > now() + interval '1 min' AS later FROM jobs WHERE id = %(id)s",
        {"id": job_id},
    )
    assert row["later"]


async def test_change_that_always_fails_is_left_to_the_checks_and_the_feed_goes_on(
    home: House,
) -> None:
    jobs = await three_jobs(home)
    for job_id in jobs:
        home.act(job_id, "lock")
    home.reconciler._gateway = FailsAt(home, await identifier(home, jobs[0]))
    await rounds(home, home.reconciler.changes, count=2)
    states = [(await home.job(job_id)).state for job_id in jobs]
    assert states == [JobState.AWAITING_PAYMENT, JobState.RUNNING, JobState.RUNNING]
    home.reconciler._gateway = home.services.gateway
    await rounds(home, home.reconciler.checks, count=1)
    assert (await home.job(jobs[0])).state is JobState.RUNNING


async def test_change_that_no_check_looks_at_again_is_not_passed_over(home: House) -> None:
    [job_id, *_] = await three_jobs(home)
    await home.pay(job_id)
    home.act(job_id, "invalidate")
    home.reconciler._gateway = FailsAt(home, await identifier(home, job_id))
    await rounds(home, home.reconciler.changes, count=3)
    home.reconciler._gateway = home.services.gateway
    await rounds(home, home.reconciler.changes, count=1)
    assert (await home.job(job_id)).state is JobState.FAILED
