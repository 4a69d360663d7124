"""Built-in flows run in threads: the loop goes on, time limits hold."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from service.errors import RunnerUnavailable
from service.runners.models import Done, Failed, RunnerSpec, RunRequest
from service.runners.runners import Runners

#: The largest input the schema allows, without sentences in common.
HEAVY = " ".join(f"Sentence {i} of many words with number {i * 7}." for i in range(640))[:30_000]


@dataclass(frozen=True)
class Flow:
    runner: RunnerSpec
    slug: str = "text-summary"


@pytest.fixture
async def runners() -> AsyncIterator[Runners]:
    opened = Runners(environment={})
    await opened.open()
    yield opened
    await opened.close()


def request(
    name: str = "text-summary", *, timeout_s: float = 600, left_s: float = 600
) -> RunRequest:
    return RunRequest(
        job_id=UUID(int=7),
        flow=Flow(RunnerSpec("builtin", name, timeout_s=timeout_s)),
        variant="standard",
        inputs={"text": HEAVY},
        answers=(),
        deadline=datetime.now(UTC) + timedelta(seconds=left_s),
    )


async def test_loop_goes_on_while_a_flow_computes(runners: Runners) -> None:
    of = request()
    task = asyncio.create_task(runners.for_flow(of.flow).run(of))
    ticks = 0
    while not task.done():
        await asyncio.sleep(0.001)
        ticks += 1
    assert isinstance(await task, Done)
    # Computed in the loop, it would have been two at most.
    assert ticks > 5


async def test_same_job_gives_the_same_bytes(runners: Runners) -> None:
    of = request()
    first, second = await asyncio.gather(*(runners.for_flow(of.flow).run(of) for _ in range(2)))
    assert first == second


@pytest.mark.parametrize("limits", [{"timeout_s": 0.001}, {"left_s": 0.001}, {"left_s": -5.0}])
async def test_time_limit_holds(runners: Runners, limits: dict[str, float]) -> None:
    of = request(**limits)  # type: ignore[arg-type]
    outcome = await runners.for_flow(of.flow).run(of)
    assert isinstance(outcome, Failed)
    assert outcome.code == "run-too-late"


async def test_unknown_builtin_waits_for_the_operator(runners: Runners) -> None:
    of = request("nothing")
    with pytest.raises(RunnerUnavailable, match="nothing"):
        await runners.for_flow(of.flow).run(of)
