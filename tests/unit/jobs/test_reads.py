"""Reads of statuses: together, each job once, and never older than who asks."""

from __future__ import annotations

import asyncio
import time
from uuid import uuid4

import pytest

from service.errors import DatabaseUnavailable, QueryTimeout, TollgateError
from service.jobs import reads as module
from service.jobs.models import JobState
from service.jobs.reads import MOST_JOBS, StatusReads
from tests.support.statuses import Table, turns


@pytest.fixture
async def table() -> Table:
    return Table()


async def test_many_who_ask_for_one_job_share_at_most_two_reads(table: Table) -> None:
    reads, job = StatusReads(table.statuses), table.add()
    table.let.clear()
    first = reads.ask(job.job_id)
    await turns()
    others = [reads.ask(job.job_id) for _ in range(199)]
    await turns()
    assert len(table.readings) == 1
    table.let.set()
    assert set(await asyncio.gather(first, *others)) == {job}
    assert table.readings == [[job.job_id], [job.job_id]]


async def test_one_who_asks_again_at_once_is_read_for_again(table: Table) -> None:
    reads, job = StatusReads(table.statuses), table.add()
    async with asyncio.timeout(10):
        for _ in range(10):
            assert await reads.ask(job.job_id) == job
    assert len(table.readings) == 10


async def test_different_jobs_share_a_query(table: Table) -> None:
    reads = StatusReads(table.statuses)
    jobs = [table.add() for _ in range(50)]
    found = await asyncio.gather(*(reads.ask(job.job_id) for job in jobs))
    assert list(found) == jobs
    assert len(table.readings) == 1


async def test_a_query_asks_for_so_many_jobs_at_most(table: Table) -> None:
    reads = StatusReads(table.statuses)
    jobs = [table.add() for _ in range(2 * MOST_JOBS + 1)]
    assert await asyncio.gather(*(reads.ask(job.job_id) for job in jobs)) == jobs
    assert [len(reading) for reading in table.readings] == [MOST_JOBS, MOST_JOBS, 1]


async def test_who_comes_while_a_read_is_on_its_way_is_not_answered_by_it(table: Table) -> None:
    reads, before = StatusReads(table.statuses), table.add()
    table.let.clear()
    early = reads.ask(before.job_id)
    await turns()
    after = table.change(before.job_id)
    late = reads.ask(before.job_id)
    table.let.set()
    assert (await early, await late) == (before, after)


async def test_unknown_job_is_told_as_none(table: Table) -> None:
    reads, known = StatusReads(table.statuses), table.add()
    assert await asyncio.gather(reads.ask(uuid4()), reads.ask(known.job_id)) == [None, known]


async def test_whoever_leaves_takes_nothing_from_the_others(table: Table) -> None:
    reads, job = StatusReads(table.statuses), table.add()
    table.let.clear()
    leaving, staying = reads.ask(job.job_id), reads.ask(job.job_id)
    await turns()
    leaving.cancel()
    table.let.set()
    assert await staying == job


async def test_what_nobody_waits_for_any_more_is_not_read(table: Table) -> None:
    reads, job = StatusReads(table.statuses), table.add()
    table.let.clear()
    first = reads.ask(job.job_id)
    await turns()
    reads.ask(table.add().job_id).cancel()
    wanted = table.add()
    last = reads.ask(wanted.job_id)
    table.let.set()
    await asyncio.gather(first, last)
    assert table.readings == [[job.job_id], [wanted.job_id]]


async def test_a_failed_read_fails_its_own_and_is_forgotten(table: Table) -> None:
    reads, job = StatusReads(table.statuses), table.add()
    cause = ValueError("the driver's own")
    table.failing = DatabaseUnavailable("gone")
    table.failing.__cause__ = cause
    found = await asyncio.gather(*(reads.ask(job.job_id) for _ in range(3)), return_exceptions=True)
    assert [(type(e), str(e), e.__cause__) for e in found if isinstance(e, Exception)] == [
        (DatabaseUnavailable, "gone", cause)
    ] * 3
    assert len({id(e) for e in found}) == 3  # a traceback belongs to one raise
    table.failing = None
    assert await reads.ask(job.job_id) == job


async def test_a_crash_is_an_error_of_ours_and_the_gate_goes_on(table: Table) -> None:
    reads, job = StatusReads(table.statuses), table.add()
    table.failing = ZeroDivisionError()
    with pytest.raises(TollgateError):
        await reads.ask(job.job_id)
    table.failing = None
    assert await reads.ask(job.job_id) == job


async def test_a_read_that_hangs_ends_in_time_and_others_do_not_wait_for_it(
    table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LIMIT_S", 0.6)
    monkeypatch.setattr(module, "NET_S", 0.1)
    reads, hung, job = StatusReads(table.statuses), table.add(), table.add()
    table.let.clear()
    began_s = time.monotonic()
    lost = reads.ask(hung.job_id)
    await asyncio.sleep(2 * module.SLOW_S)  # longer than a reading may take before others pass it
    table.let = asyncio.Event()
    table.let.set()
    assert await reads.ask(job.job_id) == job
    assert not lost.done()
    with pytest.raises(QueryTimeout):
        await lost
    assert time.monotonic() - began_s < 6


async def test_reads_at_once_are_few_however_slow(
    table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SLOW_S", 0.0)
    reads = StatusReads(table.statuses)
    table.let.clear()
    asked = []
    for _ in range(50):
        asked.append(reads.ask(table.add(JobState.FAILED).job_id))
        await asyncio.sleep(0.001)
    assert len(table.readings) == module.MOST_READS
    table.let.set()
    await asyncio.gather(*asked)


async def test_closing_ends_reads_and_those_who_wait_for_them(table: Table) -> None:
    reads, job = StatusReads(table.statuses), table.add()
    table.let.clear()
    on_its_way = reads.ask(job.job_id)
    await turns()
    waiting = reads.ask(job.job_id)
    await reads.close()
    await turns()
    assert on_its_way.cancelled()
    assert waiting.cancelled()
