"""Waiting for a change: who is told, when, and what it costs while nothing happens."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from uuid import UUID, uuid4

import pytest

from service.errors import DatabaseUnavailable, UnknownJob
from service.jobs import waiting as module
from service.jobs.models import Status
from service.jobs.reads import StatusReads
from service.jobs.waiting import Waiting
from tests.support.statuses import Table, turns


@pytest.fixture
async def table() -> Table:
    return Table()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sweeps and looks as in earnest, only more of them."""
    monkeypatch.setattr(module, "SWEEP_S", 0.02)
    monkeypatch.setattr(module, "LOOK_S", 0.2)
    monkeypatch.setattr(module, "GAP_S", 0.05)
    monkeypatch.setattr(module, "OLD_S", 0.4)


@pytest.fixture
def waiting(table: Table) -> Waiting:
    return Waiting(StatusReads(table.statuses).ask, most=1000)


Begin = Callable[..., "asyncio.Task[Status | None]"]


@pytest.fixture
def begin(waiting: Waiting) -> Begin:
    """Starts a client that waits for what comes after ``seen``."""

    def start(
        seen: Status, *, wait_s: float = 60.0, gone: Callable[[], bool] = lambda: False
    ) -> asyncio.Task[Status | None]:
        async def client() -> Status | None:
            with waiting.watch(seen.job_id) as watch:
                return await watch.change(seen, wait_s=wait_s, gone=gone)

        return asyncio.create_task(client())

    return start


async def within(task: asyncio.Task[Status | None], limit_s: float = 10.0) -> Status | None:
    async with asyncio.timeout(limit_s):
        return await task


async def test_those_who_wait_for_the_job_are_told_and_nobody_else(
    table: Table, waiting: Waiting, begin: Begin
) -> None:
    job, other = table.add(), table.add()
    clients = [begin(job) for _ in range(20)]
    bystander = begin(other)
    await turns()
    after = table.change(job.job_id)
    waiting.told(job.job_id, after.id)
    assert await asyncio.gather(*clients) == [after] * 20
    assert not bystander.done()
    assert table.readings == [[job.job_id]]
    bystander.cancel()


@pytest.mark.parametrize("told", [True, False], ids=["told", "gap"])
async def test_a_change_between_reading_and_waiting_is_not_missed(
    table: Table, waiting: Waiting, monkeypatch: pytest.MonkeyPatch, told: bool
) -> None:
    monkeypatch.setattr(module, "LOOK_S", 3600.0)
    seen = table.add()
    with waiting.watch(seen.job_id) as watch:
        after = table.change(seen.job_id)
        if told:
            waiting.told(seen.job_id, after.id)
        else:
            waiting.gap()
        async with asyncio.timeout(10):
            assert await watch.change(seen, wait_s=60, gone=lambda: False) == after


async def test_what_was_told_is_looked_at_once_however_many_come(
    table: Table, waiting: Waiting, begin: Begin
) -> None:
    before = table.add()
    after = table.change(before.job_id)
    old = begin(before)
    await turns()
    waiting.told(before.job_id, after.id)
    assert await within(old) == after
    late = [begin(after) for _ in range(20)]
    await turns()
    assert len(table.readings) == 1
    for client in late:
        client.cancel()


async def test_what_a_client_has_seen_already_is_no_news_to_it(
    table: Table, waiting: Waiting, begin: Begin
) -> None:
    before = table.add()
    old = begin(before)
    await turns()
    after = table.change(before.job_id)
    new = begin(after)
    await turns()
    waiting.told(before.job_id, after.id)
    assert await within(old) == after
    await turns()
    assert not new.done()
    new.cancel()


async def test_what_one_client_has_read_is_told_to_the_others(table: Table, begin: Begin) -> None:
    before = table.add()
    old = begin(before)
    await turns()
    after = table.change(before.job_id)
    new = begin(after)  # nothing was told; it had read the job when it came
    assert await within(old) == after
    assert table.readings == []
    new.cancel()


async def test_an_older_reading_takes_nothing_back(
    table: Table, waiting: Waiting, begin: Begin
) -> None:
    before = table.add()
    after = table.change(before.job_id)
    new = begin(after)
    await turns()
    assert await within(begin(before)) == after
    assert not new.done()
    new.cancel()


@pytest.mark.usefixtures("quick")
async def test_waiting_ends_with_the_present_status(begin: Begin, table: Table) -> None:
    job = table.add()
    assert await within(begin(job, wait_s=0.05)) == job


@pytest.mark.usefixtures("quick")
async def test_a_message_that_was_lost_costs_a_look(table: Table, begin: Begin) -> None:
    job = table.add()
    client = begin(job)
    await turns()
    after = table.change(job.job_id)
    assert await within(client) == after


@pytest.mark.usefixtures("quick")
async def test_after_a_gap_every_job_is_looked_at_soon(
    table: Table, waiting: Waiting, begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOOK_S", 3600.0)
    jobs = [table.add() for _ in range(300)]
    clients = [begin(job) for job in jobs]
    await turns()
    changed = [table.change(job.job_id) for job in jobs]
    await asyncio.sleep(0.1)  # time enough to read of it, were anybody looking
    assert table.readings == []
    waiting.gap()
    async with asyncio.timeout(10):
        assert await asyncio.gather(*clients) == changed
    assert len(table.readings) < 30


@pytest.mark.usefixtures("quick")
async def test_looks_are_few_however_many_wait(table: Table, begin: Begin) -> None:
    jobs = [table.add() for _ in range(10)]
    clients = [begin(job, wait_s=1.0) for job in jobs for _ in range(50)]
    await asyncio.gather(*clients)
    looks = sum(map(len, table.readings))
    assert looks <= 10 * 1.2 / (module.LOOK_S * (1 - module.JITTER)) + 10  # once in LOOK_S for each


@pytest.mark.usefixtures("quick")
async def test_failed_looks_are_tried_again_and_what_is_old_is_not_told(
    table: Table, begin: Begin
) -> None:
    job = table.add()
    table.failing = DatabaseUnavailable()
    assert await within(begin(job, wait_s=1.0)) is None
    client = begin(job)
    await asyncio.sleep(0.3)  # looks, all in vain
    table.failing = None
    after = table.change(job.job_id)
    assert await within(client) == after


async def test_a_deleted_job_is_unknown_to_those_who_wait(
    table: Table, waiting: Waiting, begin: Begin
) -> None:
    job = table.add()
    client = begin(job)
    await turns()
    del table.rows[job.job_id]
    waiting.told(job.job_id, None)
    with pytest.raises(UnknownJob):
        await within(client)


@pytest.mark.usefixtures("quick")
async def test_a_client_that_has_left_frees_its_place(
    table: Table, waiting: Waiting, begin: Begin
) -> None:
    left = asyncio.Event()
    client, stays = begin(table.add(), gone=left.is_set), begin(table.add())
    await turns()
    assert waiting.clients == 2
    left.set()
    with contextlib.suppress(asyncio.CancelledError):
        await within(client)
    assert client.cancelled()
    assert waiting.clients == 1
    stays.cancel()


async def test_nothing_is_left_of_those_who_have_been_told_or_cancelled(
    table: Table, waiting: Waiting, begin: Begin
) -> None:
    told, cancelled = begin(job := table.add()), begin(table.add())
    await turns()
    waiting.told(job.job_id, table.change(job.job_id).id)
    cancelled.cancel()
    await asyncio.wait({told, cancelled})
    assert repr(waiting) == "<Waiting open: 0 clients, 0 jobs>"


async def test_leaving_worker_tells_everybody_what_it_knows(
    table: Table, waiting: Waiting, begin: Begin
) -> None:
    jobs = [table.add() for _ in range(5)]
    clients = [begin(job) for job in jobs]
    await turns()
    waiting.release()
    assert await asyncio.gather(*clients) == jobs
    assert waiting.released


async def test_a_message_about_a_job_nobody_waits_for_costs_nothing(
    table: Table, waiting: Waiting
) -> None:
    waiting.told(uuid4(), UUID(int=0))
    await turns()
    assert table.readings == []
