"""Repeats, races and crashes: one job, one payment, one result."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest

from service.errors import (
    CircuitOpen,
    IdempotencyMismatch,
    PaymentOutcomeUnknown,
    PaymentRejected,
    PaymentUnavailable,
    RequestInProgress,
)
from service.jobs.models import JobState
from service.jobs.runs import Runs
from service.runners.runners import Runners
from tests.support.house import TEXT, House, flow_definition
from tests.support.runners import RUNNING, Scripted, serving
from tests.support.waiting import until

MakeHouse = Callable[..., Awaitable[House]]
CREATE, LIST = "POST /payment", "GET /payment"


async def the_only_job(home: House) -> UUID:
    [row] = await home.services.database.fetch("SELECT id FROM jobs")
    job_id: UUID = row["id"]
    return job_id


async def test_same_key_and_request_give_the_same_job(home: House) -> None:
    first = await home.start(idempotency_key="k")
    again = await home.start(idempotency_key="k")
    assert (again.replayed, again.job) == (True, first.job)
    assert len(home.sandbox.ledger) == 1


async def test_same_key_with_another_request_is_refused(home: House) -> None:
    await home.start(idempotency_key="k")
    with pytest.raises(IdempotencyMismatch):
        await home.start(idempotency_key="k", input_data={"text": "other"})
    assert len(home.sandbox.ledger) == 1


async def test_keys_of_two_principals_have_nothing_to_do_with_each_other(home: House) -> None:
    first = await home.start(idempotency_key="k")
    second = await home.start(idempotency_key="k", principal="198.51.100.7")
    assert first.job.id != second.job.id


async def test_without_a_key_the_purchasers_identifier_is_one(home: House) -> None:
    first = await home.start()
    assert (await home.start()).job == first.job
    assert (await home.start(input_data={"text": TEXT + "!"})).job.id != first.job.id


async def test_many_at_once_with_one_key_make_one_job_and_one_payment(home: House) -> None:
    async def start() -> UUID | None:
        try:
            return (await home.start(idempotency_key="k")).job.id
        except RequestInProgress:
            return None

    answers = await asyncio.gather(*(start() for _ in range(30)))
    assert {answer for answer in answers if answer} == {await the_only_job(home)}
    assert len(home.sandbox.ledger) == 1
    assert (await home.start(idempotency_key="k")).replayed


async def test_expired_key_may_be_used_again(home: House) -> None:
    first = await home.start(idempotency_key="k")
    await home.sql("UPDATE idempotency_keys SET expires_at = now() - interval '1 s'")
    assert (await home.start(idempotency_key="k")).job.id != first.job.id


async def test_key_that_is_taken_anew_while_old_ones_are_forgotten_stays(home: House) -> None:
    first = await home.start(idempotency_key="k")
    await home.sql("UPDATE idempotency_keys SET expires_at = now() - interval '1 s'")
    repository, database = home.services.repository, home.services.database
    async with database.transaction() as transaction:
        await transaction.execute(
            "UPDATE idempotency_keys SET expires_at = now() + interval '1 day'"
        )
        await repository.expire()  # by another worker, before that is committed
    assert (await home.start(idempotency_key="k")).job.id == first.job.id


async def test_refused_payment_fails_the_job_and_frees_the_key(home: House) -> None:
    home.fault(CREATE, "status", status=400, times=1)
    with pytest.raises(PaymentRejected):
        await home.start()
    assert (await home.job(await the_only_job(home))).state is JobState.FAILED
    assert (await home.start()).job.state is JobState.AWAITING_PAYMENT


async def test_service_that_cannot_be_reached_leaves_no_payment_and_a_free_key(
    make_house: MakeHouse,
) -> None:
    home = await make_house(payment={"url": "http://127.0.0.1:1", "attempts": 1})
    for expected in (PaymentUnavailable, PaymentUnavailable, PaymentUnavailable, CircuitOpen):
        with pytest.raises(expected) as refused:
            await home.start()
        assert type(refused.value) is expected
    rows = await home.services.database.fetch("SELECT state FROM jobs")
    assert [row["state"] for row in rows] == ["failed"] * 4


async def test_open_circuit_is_not_called_and_free_flows_go_on(home: House) -> None:
    home.fault("*", "status", status=500)
    with pytest.raises(PaymentOutcomeUnknown):
        await home.start()
    calls = home.sandbox.calls[CREATE]
    with pytest.raises(CircuitOpen) as refused:
        await home.start(input_data={"text": "another"})
    assert home.sandbox.calls[CREATE] == calls
    assert refused.value.retry_after_s
    assert (await home.start("echo+free")).job.state is JobState.RUNNING


async def test_known_open_circuit_refuses_before_anything_is_written(
    make_house: MakeHouse,
) -> None:
    home = await make_house(breaker={"failure_threshold": 1})
    sold = await home.start()
    home.fault("*", "status", status=503)
    with pytest.raises(PaymentOutcomeUnknown):
        await home.start(input_data={"text": "opens the circuit"})
    with pytest.raises(CircuitOpen):
        await home.start(input_data={"text": "is told by the fleet"})
    calls = home.sandbox.calls[CREATE]
    jobs = await home.services.database.fetch("SELECT id FROM jobs")
    for _ in range(3):
        with pytest.raises(CircuitOpen) as refused:
            await home.start(input_data={"text": "is refused from memory"})
        assert refused.value.retry_after_s
    assert len(await home.services.database.fetch("SELECT id FROM jobs")) == len(jobs)
    assert home.sandbox.calls[CREATE] == calls
    again = await home.start()
    assert (again.job.id, again.replayed) == (sold.job.id, True)


async def test_payment_made_but_not_answered_is_found_and_attached(home: House) -> None:
    home.fault(CREATE, "reset", when="after", times=1)
    started = await home.start()
    assert started.job.state is JobState.AWAITING_PAYMENT
    assert len(home.payments_of(started.job.id)) == 1


async def test_unknown_outcome_is_found_out_later_and_answers_the_same_key(
    make_house: MakeHouse,
) -> None:
    home = await make_house(breaker={"failure_threshold": 100})
    home.fault(CREATE, "reset", when="after", times=1)
    home.fault(LIST, "reset")
    with pytest.raises(PaymentOutcomeUnknown):
        await home.start(idempotency_key="k")
    job_id = await the_only_job(home)
    with pytest.raises(RequestInProgress):
        await home.start(idempotency_key="k")

    home.sandbox.faults.clear()
    await home.make_due(job_id)
    await home.reconciler.checks()

    again = await home.start(idempotency_key="k")
    assert (again.replayed, again.job.id) == (True, job_id)
    assert again.job.payment is not None
    assert len(home.sandbox.ledger) == 1


async def test_crash_before_the_payment_call_is_given_up_only_after_the_grace(
    home: House,
) -> None:
    await crash_while_creating(home)
    job_id = await the_only_job(home)
    await home.make_due(job_id)
    await home.reconciler.checks()
    assert (await home.job(job_id)).state is JobState.CREATING
    await home.sql("UPDATE jobs SET created_at = now() - interval '1 hour', due_at = now()")
    await home.reconciler.checks()
    assert (await home.job(job_id)).state is JobState.FAILED
    assert (await home.start()).job.id != job_id


async def test_crash_between_payment_and_record_is_mended_by_the_feed(home: House) -> None:
    """The payment exists, we do not know it yet, and it is paid before we look."""
    await crash_while_creating(home, after_payment=True)
    job_id = await the_only_job(home)
    assert (await home.job(job_id)).state is JobState.CREATING
    home.act(job_id, "lock")
    await home.reconciler.changes()
    job = await home.job(job_id)
    assert job.state is JobState.RUNNING
    assert job.payment is not None
    assert len(home.sandbox.ledger) == 1


async def crash_while_creating(home: House, *, after_payment: bool = False) -> None:
    """As a killed worker: the request ends at the payment call, and nobody tidies up."""
    home.fault(CREATE, "hang", when="after" if after_payment else "before", times=1)
    starting = asyncio.create_task(home.start())
    await until(
        lambda: home.sandbox.calls[CREATE] and (len(home.sandbox.ledger) or not after_payment)
    )
    for task in asyncio.all_tasks():
        if task.get_name().startswith("start-"):
            task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting


async def test_run_of_a_dead_worker_goes_on_elsewhere_and_completes_once(home: House) -> None:
    job_id = (await home.start("echo+free")).job.id
    [lost] = await home.services.repository.claim_runs("dead-worker", most=1)
    assert await home.services.repository.claim_runs("other", most=1) == ()
    await home.sql("UPDATE jobs SET lease_until = now() - interval '1 s'")
    await home.run_all()
    done = await home.job(job_id)
    assert done.state is JobState.COMPLETED
    # The worker was not dead after all: what it brings now is refused.
    assert not await home.services.repository.complete(lost, "another result", "00" * 32)
    assert await home.job(job_id) == done


async def test_renewed_lease_keeps_the_run(home: House) -> None:
    await home.start("echo+free")
    repository = home.services.repository
    [claim] = await repository.claim_runs("worker", most=1)
    await home.sql("UPDATE jobs SET lease_until = now()")
    assert await repository.renew("worker", [claim.job_id]) == {claim.job_id}
    assert await repository.claim_runs("other", most=1) == ()


@asynccontextmanager
async def a_long_run(make_house: MakeHouse) -> AsyncIterator[tuple[House, Runs]]:
    """A worker that has begun a run which ends only by being stopped."""
    scripted = Scripted([RUNNING], [RUNNING])
    async with serving(scripted):
        target = f"http://127.0.0.1:{scripted.port}/runs"
        flow = flow_definition(runner={"kind": "http", "target": target})
        home = await make_house(flow)
        await home.start("echo+free")
        runners = Runners()
        await runners.open()
        runs = home.runs(runners)
        try:
            await runs.tick()
            assert runs.held == 1
            yield home, runs
        finally:
            await runs.stop(within_s=0.0)
            await runners.close()


async def attempts(home: House) -> int:
    [row] = await home.services.database.fetch("SELECT run_attempts FROM jobs")
    return int(row["run_attempts"])


async def test_run_outlives_an_outage_that_was_longer_than_its_lease(
    make_house: MakeHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with a_long_run(make_house) as (home, runs):
        await home.sql("UPDATE jobs SET lease_until = now() - interval '1 s'")
        later = SimpleNamespace(monotonic=lambda: time.monotonic() + 60)
        monkeypatch.setattr("service.jobs.runs.time", later)
        await runs.tick()
        assert (runs.held, await attempts(home)) == (1, 1)


async def test_worker_that_loses_a_run_to_itself_goes_on_with_one(make_house: MakeHouse) -> None:
    async with a_long_run(make_house) as (home, runs):
        before = run_tasks()
        await home.sql("UPDATE jobs SET lease_until = now() - interval '1 s'")
        await runs.tick()
        assert (runs.held, await attempts(home)) == (1, 2)
        await until(lambda: all(task.done() for task in before))
        assert len(run_tasks()) == 1


def run_tasks() -> list[asyncio.Task[Any]]:
    return [task for task in asyncio.all_tasks() if task.get_name().startswith("run-")]


async def test_stopping_worker_hands_its_runs_back_at_once(make_house: MakeHouse) -> None:
    slow: dict[str, Any] = {"lease_seconds": 3600.0}
    home = await make_house(jobs=slow)
    await home.start("echo+free")
    runners = Runners()
    await runners.open()
    try:
        stopping = home.runs(runners)
        await stopping.tick()
        await stopping.stop(within_s=0.0)
    finally:
        await runners.close()
    await home.run_all()
    [row] = await home.services.database.fetch("SELECT state FROM jobs")
    assert row["state"] == "completed"


async def test_draining_worker_begins_no_further_runs(home: House) -> None:
    await home.start("echo+free")
    runners = Runners()
    draining = home.runs(runners, draining=lambda: True)
    assert not await draining.tick()
    assert repr(draining) == "<Runs 0 of 20>"
    await home.run_all()
    [row] = await home.services.database.fetch("SELECT state FROM jobs")
    assert row["state"] == "completed"
