"""A run that takes its worker with it is given up; those beside it are not taken along."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from uuid import UUID

import pytest

from service.jobs.inspection import Inspection
from service.jobs.models import Claim, JobState
from service.jobs.repository import SUSPECT_AFTER
from service.runners.runners import Runners
from tests.support.house import House, flow_definition
from tests.support.runners import RUNNING, Scripted, serving

MakeHouse = Callable[..., Awaitable[House]]


async def free_job(home: House) -> UUID:
    return (await home.start("echo+free")).job.id


async def claim(home: House, *, suspects: int = 1) -> list[UUID]:
    found = await home.services.repository.claim_runs("worker", most=10, suspects=suspects)
    return [claim.job_id for claim in found]


async def kill_the_worker(home: House) -> None:
    """Nobody renews what it held."""
    await home.sql(
        "UPDATE jobs SET lease_until = now() - interval '1 s' WHERE lease_owner IS NOT NULL"
    )


@pytest.mark.parametrize("most", [1, 5])
async def test_run_that_kills_its_workers_is_given_up(make_house: MakeHouse, most: int) -> None:
    home = await make_house(jobs={"lost_runs": most})
    job_id = await free_job(home)
    for _ in range(most):
        assert (await home.job(job_id)).state is JobState.RUNNING
        assert await claim(home) == [job_id]
        await home.services.runs.expire()
        await kill_the_worker(home)
    assert await claim(home) == []
    await home.services.runs.expire()
    dossier = await Inspection(home.services.database).dossier(job_id)
    assert dossier is not None
    assert (dossier.state, dossier.failure_code) == (JobState.FAILED, "run-abandoned")
    assert (dossier.run_attempts, dossier.lost_runs) == (most, most)
    assert dossier.failure == f"The run was begun {most} times and broke off each time."


async def test_run_that_is_given_back_is_not_lost(home: House) -> None:
    job_id = await free_job(home)
    for _ in range(12):
        [held] = await home.services.repository.claim_runs("worker", most=1)
        assert held.lost_runs == 0
        assert await home.services.repository.release(held, again_in_s=0.0)
    await home.run_all()
    assert (await home.job(job_id)).state is JobState.COMPLETED


async def test_runs_lost_beside_a_killer_are_begun_one_at_a_time(home: House) -> None:
    """The oldest kills every worker that begins it; the others were only there."""
    killer, *others = [await free_job(home) for _ in range(4)]
    for _ in range(SUSPECT_AFTER):
        assert set(await claim(home)) == {killer, *others}
        await kill_the_worker(home)
    fresh = await free_job(home)
    assert await claim(home) == [killer, fresh]
    await kill_the_worker(home)
    # Again and again, until it is given up; whoever is begun beside it was not yet suspected.
    for _ in range(20):
        if killer not in (began := await claim(home)):
            break
        assert not set(others) & set(began)
        await kill_the_worker(home)
    await home.services.runs.expire()
    assert (await home.job(killer)).state is JobState.FAILED
    await kill_the_worker(home)
    await home.run_all()
    for job_id in (*others, fresh):
        assert (await home.job(job_id)).state is JobState.COMPLETED


async def test_worker_that_holds_a_suspect_takes_no_second_one(make_house: MakeHouse) -> None:
    scripted = Scripted([RUNNING], [RUNNING])
    async with serving(scripted):
        target = f"http://127.0.0.1:{scripted.port}/runs"
        home = await make_house(flow_definition(runner={"kind": "http", "target": target}))
        for _ in range(3):
            await free_job(home)
        await home.sql("UPDATE jobs SET lost_runs = %(n)s", n=SUSPECT_AFTER)
        runners = Runners()
        await runners.open()
        runs = home.runs(runners)
        try:
            for _ in range(3):
                await runs.tick()
            assert runs.held == 1
        finally:
            await runs.stop(within_s=0.0)
            await runners.close()


async def test_answer_makes_a_new_beginning(home: House) -> None:
    job_id = await free_job(home)
    await home.sql("UPDATE jobs SET lost_runs = 4")
    [held] = await home.services.repository.claim_runs("worker", most=1)
    status_id = await ask(home, held)
    assert await home.services.repository.answer(job_id, status_id, {}, {}, "aa")
    [again] = await home.services.repository.claim_runs("worker", most=1)
    assert (again.lost_runs, again.answers) == (0, (("q1", {}),))


async def ask(home: House, held: Claim) -> UUID:
    assert await home.services.repository.ask(
        held, "q1", {"input_data": []}, frozenset({"aa"}), wait_s=60.0
    )
    return (await home.job(held.job_id)).status_id
