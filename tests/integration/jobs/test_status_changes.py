"""The database tells of every new status of a job, once, and of nothing else."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from uuid import UUID

import psycopg2
import pytest

from service.errors import UnknownJob
from service.jobs import waiting
from service.jobs.models import Job, JobState, Status
from service.jobs.statuses import CHANNEL
from tests.support.house import House

MakeHouse = Callable[..., Awaitable[House]]


class Heard:
    """All messages on the channel so far."""

    def __init__(self, url: str) -> None:
        self.connection = psycopg2.connect(url)
        self.connection.autocommit = True
        with self.connection.cursor() as cursor:
            cursor.execute(f"LISTEN {CHANNEL}")

    def take(self) -> list[str]:
        with self.connection.cursor() as cursor:
            cursor.execute("SELECT 1")  # whatever was committed before has arrived with its answer
        taken = [notify.payload for notify in self.connection.notifies]
        self.connection.notifies.clear()
        return taken


@pytest.fixture
async def heard(database_url: str, home: House) -> AsyncIterator[Heard]:
    listening = Heard(database_url)
    with contextlib.closing(listening.connection):
        yield listening


async def status_id(home: House, job: Job) -> UUID:
    return (await home.job(job.id)).status_id


async def test_each_new_status_is_told_once_and_nothing_else_is(home: House, heard: Heard) -> None:
    job = (await home.start()).job
    assert heard.take() == []  # nobody waits for an intent
    await home.pay(job.id)
    assert heard.take() == [f"{job.id} {await status_id(home, job)}"]
    await home.make_due(job.id)
    await home.run_all()  # claimed, its lease renewed, completed
    assert heard.take() == [f"{job.id} {await status_id(home, job)}"]
    settler = home.settler()
    for _ in range(3):
        await home.make_due(job.id)
        await settler.tick()
    assert heard.take() == []


async def test_late_funds_change_nothing_that_is_told(home: House, heard: Heard) -> None:
    job = (await home.start()).job
    repository = home.services.repository
    assert await repository.fail_unpaid(job.id, "payment-missing", "Not paid.", None)
    [told] = heard.take()
    before = (await repository.statuses([job.id]))[job.id]
    assert told == f"{job.id} {before.id}"
    assert await repository.note_late_payment(job.id, "chain-id", "FundsLocked")
    assert heard.take() == []
    after = (await repository.statuses([job.id]))[job.id]
    assert (after.id, after.state, after.failure) == (before.id, before.state, before.failure)


async def test_what_is_done_by_hand_is_told_too(home: House, heard: Heard) -> None:
    job = (await home.start("echo+free")).job
    await home.run_all()
    heard.take()
    await home.sql("UPDATE jobs SET result = 'mended' WHERE id = %(id)s", id=job.id)
    assert heard.take() == [f"{job.id} {await status_id(home, job)}"]
    await home.sql("DELETE FROM jobs WHERE id = %(id)s", id=job.id)
    assert heard.take() == [str(job.id)]


async def test_statuses_tell_of_each_state_what_belongs_to_it(home: House) -> None:
    free, paid = (await home.start("echo+free")).job, (await home.start()).job
    await home.run_all()
    await home.services.repository.fail_unpaid(paid.id, "payment-missing", "Not paid.", None)
    found = await home.services.repository.statuses([free.id, paid.id, UUID(int=7)])
    assert found.keys() == {free.id, paid.id}
    done, failed = found[free.id], found[paid.id]
    assert (done.state, done.failure) == (JobState.COMPLETED, None)
    assert done.result
    assert (failed.state, failed.result, failed.failure) == (JobState.FAILED, None, "Not paid.")
    assert done.final
    assert failed.final


async def test_waiting_ends_with_the_change_that_is_told(home: House) -> None:
    job = (await home.start()).job
    waiting_for = asyncio.create_task(wait(home, job))
    await asyncio.sleep(0.1)  # it waits by now
    await home.pay(job.id)
    home.services.statuses.told(f"{job.id} {await status_id(home, job)}")
    assert (await waiting_for).state is JobState.RUNNING


async def test_waiting_ends_though_nothing_is_told(
    home: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "LOOK_S", 0.3)
    job = (await home.start()).job
    waiting_for = asyncio.create_task(wait(home, job))
    await asyncio.sleep(0.1)  # it waits by now
    await home.pay(job.id)
    assert (await waiting_for).state is JobState.RUNNING


async def test_waiting_for_a_deleted_job_ends(home: House) -> None:
    job = (await home.start()).job
    waiting_for = asyncio.create_task(wait(home, job))
    await asyncio.sleep(0.1)  # it waits by now
    await home.sql("DELETE FROM jobs WHERE id = %(id)s", id=job.id)
    home.services.statuses.told(str(job.id))
    with pytest.raises(UnknownJob):
        await waiting_for


async def wait(home: House, job: Job) -> Status:
    statuses = home.services.statuses
    async with asyncio.timeout(20):
        with statuses.watch(job.id) as watch:
            seen = await statuses.read(job.id, flow_uid=job.flow_uid)
            return await statuses.change(watch, seen, wait_s=30, gone=lambda: False)
