"""Workers that die, hang, or are replaced while the others serve."""

from __future__ import annotations

import asyncio
import json
import os
import signal

import aiohttp
import pytest

from scripts.processes import alive
from tests.support.served import PATIENCE_S, Start
from tests.support.waiting import until


async def test_killed_worker_is_replaced_and_its_gauges_forgotten(start: Start) -> None:
    async with start(workers=2) as served:
        victim, other = sorted(served.workers())
        _, page = await served.get(f"{served.internal}/metrics")
        assert "tollgate_database_pool_connections 20.0" in page
        os.kill(victim, signal.SIGKILL)
        await until(lambda: len(served.events("worker_ready")) == 3)
        assert victim not in served.workers()
        assert other in served.workers()
        _, page = await served.get(f"{served.internal}/metrics")
        assert "tollgate_database_pool_connections 20.0" in page, "two live workers, not three"
        assert 'tollgate_payment_calls_total{operation="create",outcome="ok"} 3.0' in page
        assert await served.status(f"{served.public}/about") == 200


async def test_worker_told_to_stop_alone_is_replaced(start: Start) -> None:
    async with start(workers=1, drain_delay=0.0) as served:
        (worker,) = served.workers()
        os.kill(worker, signal.SIGTERM)
        await until(lambda: len(served.events("worker_ready")) == 2)
        assert (served.folder / f"closed-{worker}").exists()
        assert await served.status(f"{served.public}/readyz") == 200


async def test_hanging_worker_is_aborted_with_its_stack_and_replaced(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_HANG_TIMEOUT_S", "8")
    async with start() as served:
        with pytest.raises(aiohttp.ClientError):
            await served.get(f"{served.public}/hang")
        await until(lambda: len(served.events("worker_ready")) == 2)
        assert "Fatal Python error: Aborted" in served.text
        assert "in hang" in served.text
        assert await served.status(f"{served.public}/about") == 200


async def test_orphaned_worker_leaves_and_frees_the_port(start: Start) -> None:
    async with start() as served:
        (worker,) = served.workers()
        served.process.kill()
        await until(lambda: not alive(worker))
        assert (served.folder / f"closed-{worker}").exists()
        assert await served.status(f"{served.public}/about") == 0


async def test_reload_brings_new_settings_without_losing_a_request(start: Start) -> None:
    async with start(workers=1, default_flow="before", drain_delay=1.0) as served:
        (old,) = served.workers()
        slow = await served.slow_request()
        served.configure(workers=2, default_flow="after", port=1, drain_delay=1.0)
        served.process.send_signal(signal.SIGHUP)

        readiness: list[int] = []
        while len(served.events("worker_ready")) < 3 or alive(old):
            readiness.append(await served.status(f"{served.public}/readyz"))
            if len(served.events("worker_leaving")) == 1:
                served.let_slow_end()
            await asyncio.sleep(0.05)
        assert set(readiness) == {200}, "a replaced worker is no reason to leave the balancer"
        assert await slow == (200, "done")
        _, text = await served.get(f"{served.public}/about")
        about = json.loads(text)
        assert about["flow"] == "after"
        assert about["port"] == 0, "what is open already is not said to be another"
        assert len(served.workers()) == 2


async def test_workers_are_replaced_only_when_their_successors_serve(start: Start) -> None:
    async with start(workers=1, default_flow="before") as served:
        (old,) = served.workers()
        served.configure(workers=1, default_flow="slow-start")
        served.process.send_signal(signal.SIGHUP)
        await until(lambda: len(served.workers()) == 2)
        for _ in range(25):  # the master looks every second
            assert json.loads((await served.get(f"{served.public}/about"))[1])["worker"] == old
            await asyncio.sleep(0.1)
        (served.folder / "may-start").touch()
        await until(lambda: not alive(old))
        served.expect_successors_first(workers=1)
        assert json.loads((await served.get(f"{served.public}/about"))[1])["flow"] == "slow-start"


async def test_successor_that_cannot_start_leaves_its_predecessor_serving(start: Start) -> None:
    async with start(workers=1, default_flow="before") as served:
        (old,) = served.workers()
        served.configure(workers=1, default_flow="broken")
        served.process.send_signal(signal.SIGHUP)
        await until(lambda: bool(served.events("worker_not_started")))
        # Each attempt of a successor would leave its files.
        await until(lambda: served.counting() == {old})
        assert json.loads((await served.get(f"{served.public}/about"))[1])["worker"] == old
        served.configure(workers=1, default_flow="mended")
        served.process.send_signal(signal.SIGHUP)
        await until(lambda: not alive(old))
        assert json.loads((await served.get(f"{served.public}/about"))[1])["flow"] == "mended"


async def test_workers_are_recycled_after_their_requests_without_failing_one(start: Start) -> None:
    async with start(workers=2, max_requests=60, idle_linger=1.0) as served:
        first = served.workers()
        answered: set[int] = set()
        async with aiohttp.ClientSession() as session:
            session._retry_connection = False  # what fails shall show

            async def ask_over_and_over() -> None:
                while len(answered) < 5:
                    async with session.post(f"{served.public}/about") as answer:
                        answered.add((await answer.json())["worker"])

            async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as group:
                for _ in range(4):
                    group.create_task(ask_over_and_over())
        await until(lambda: not any(alive(worker) for worker in first))
        tired = served.events("worker_tired")
        assert {event["worker"] for event in tired} >= first
        assert all(event["requests"] >= 60 for event in tired)
        assert len(served.workers() & answered) >= 1
        assert all(event["retiring"] for event in served.events("worker_leaving"))
        served.expect_successors_first(workers=2)


@pytest.mark.parametrize(
    ("settings", "fault"),
    [("prot = 1", "prot"), ('default_flow = "broken-reading"', "ValueError")],
    ids=["a fault", "a bug"],
)
async def test_reload_of_wrong_settings_changes_nothing(
    start: Start, settings: str, fault: str
) -> None:
    async with start() as served:
        before = served.workers()
        (served.folder / "tollgate.toml").write_text(f"[server]\n{settings}\n")
        served.process.send_signal(signal.SIGHUP)
        await until(lambda: bool(served.events("settings_refused")))
        assert fault in served.events("settings_refused")[0]["faults"][0]
        assert await served.status(f"{served.public}/about") == 200
        assert served.workers() == before
