"""A runner that says "not now": how often it is asked again, and what does not count as a try."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from uuid import UUID

from service.jobs.inspection import Inspection
from service.jobs.models import JobState
from service.jobs.runs import MAX_FAILED, Runs
from service.runners.runners import Runners
from tests.support.house import House, flow_definition
from tests.support.runners import DONE, Reply, Scripted, serving
from tests.support.waiting import until

MakeHouse = Callable[..., Awaitable[House]]
NOT_NOW: Reply = {
    "status": "failed",
    "error": {"code": "busy", "message": "Come again.", "retryable": True},
}
AWAY = 503


class Shop:
    """A sold job, whose runner answers as it is told."""

    def __init__(self, home: House, runs: Runs, scripted: Scripted, job_id: UUID) -> None:
        self.home = home
        self.job_id = job_id
        self._runs = runs
        self._scripted = scripted

    async def tried(self, reply: Reply) -> JobState:
        """One more try, due at once."""
        self._scripted.starts[:] = [reply]
        await self.home.make_due(self.job_id)
        await self._runs.tick()
        await until(lambda: self._runs.held == 0)
        return (await self.home.job(self.job_id)).state


@asynccontextmanager
async def sold(make_house: MakeHouse) -> AsyncIterator[Shop]:
    scripted = Scripted([DONE])
    async with serving(scripted):
        target = f"http://127.0.0.1:{scripted.port}/runs"
        home = await make_house(flow_definition(runner={"kind": "http", "target": target}))
        job_id = (await home.start()).job.id
        await home.pay(job_id)
        runners = Runners()
        await runners.open()
        runs = home.runs(runners)
        try:
            yield Shop(home, runs, scripted, job_id)
        finally:
            await runs.stop(within_s=0.0)
            await runners.close()


async def test_a_passing_failure_is_tried_again_and_not_for_ever(make_house: MakeHouse) -> None:
    async with sold(make_house) as shop:
        states = [await shop.tried(NOT_NOW) for _ in range(MAX_FAILED)]
        assert states == [JobState.RUNNING] * (MAX_FAILED - 1) + [JobState.FAILED]
        dossier = await Inspection(shop.home.services.database).dossier(shop.job_id)
        assert dossier is not None
        assert (dossier.failure_code, dossier.failed_runs) == ("busy", MAX_FAILED - 1)


async def test_runs_given_back_and_a_runner_that_is_away_use_up_no_tries(
    make_house: MakeHouse,
) -> None:
    """As after some deploys and an outage: the first failure of a paid job is not its last."""
    async with sold(make_house) as shop:
        repository = shop.home.services.repository
        for _ in range(MAX_FAILED):
            await shop.home.make_due(shop.job_id)
            [held] = await repository.claim_runs("leaving", most=1)
            assert await repository.release(held, again_in_s=0.0)
            assert await shop.tried(AWAY) is JobState.RUNNING
        assert await shop.tried(NOT_NOW) is JobState.RUNNING
        assert await shop.tried(DONE) is JobState.COMPLETED
