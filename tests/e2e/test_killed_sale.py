"""SIGKILL at every step of a sale; each step is held open until the kill, so that it always hits.

After it the purchaser sends the same request again, as purchasers do, and the books are audited.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import signal
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from scripts.chaos.audit import Told, audit
from scripts.chaos.fleet import Fleet, Shape, fleet
from scripts.chaos.records import books, hasten, open_jobs
from tests.e2e.calls import CREATE, Calls
from tests.e2e.runner import held_runner
from tests.e2e.test_killed_worker import held_flow, pid_of
from tests.e2e.wire import TEXT, Line, Reply, lines
from tests.support.servers import scratch_directory
from tests.support.waiting import until

SUBMIT = "POST /payment/submit-result"
LEASES = "SELECT lease_owner FROM jobs WHERE lease_owner IS NOT NULL"
#: The statement that writes down the payment, waiting for the row we hold.
WAITING = """
SELECT pid FROM pg_stat_activity
WHERE wait_event_type = 'Lock' AND query LIKE '%%state = ''awaiting_payment''%%'
"""

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def module_fleet() -> Iterator[Fleet]:
    settings = {
        # The looks at an intent are hastened; they may give it up once no call can be under way.
        "TOLLGATE_PAYMENT__ATTEMPT_TIMEOUT": "3",
        "TOLLGATE_PAYMENT__CALL_TIMEOUT": "4",
        "TOLLGATE_SERVER__REQUEST_TIMEOUT": "5",
        "TOLLGATE_JOBS__INTENT_GRACE": "5",
        # What is held open here is no failure of the payment service's.
        "TOLLGATE_BREAKER__FAILURE_THRESHOLD": "100",
    }
    with scratch_directory() as home, fleet(home, Shape(settings)) as made:
        yield made


@pytest.fixture
def four(module_fleet: Fleet) -> Fleet:
    """Two replicas of two workers, all well."""
    module_fleet.clear_faults()
    module_fleet.await_ready()
    return module_fleet


@dataclass(frozen=True, slots=True)
class Purchase:
    """One purchaser's wish, sent as often as it takes."""

    reference: str = "text-summary"
    input_data: dict[str, str] = field(default_factory=lambda: {"text": TEXT})
    identifier: str = field(default_factory=lambda: secrets.token_hex(8))
    key: str = field(default_factory=lambda: secrets.token_hex(8))

    async def send(self, line: Line) -> Reply:
        body = {"identifier_from_purchaser": self.identifier, "input_data": self.input_data}
        return await line.post(f"/{self.reference}/start_job", body, Idempotency_Key=self.key)

    def jobs(self, fleet: Fleet) -> list[dict[str, Any]]:
        return fleet.rows(
            "SELECT id::text, state FROM jobs WHERE identifier_from_purchaser = %(it)s"
            " ORDER BY created_at",
            it=self.identifier,
        )


@pytest.mark.parametrize(("when", "jobs_made"), [("before", 2), ("after", 1)])
async def test_killed_during_the_payment_call(four: Fleet, when: str, jobs_made: int) -> None:
    """Before the payment is made, or after it; from here both are a call without an answer."""
    purchase, calls = Purchase(), Calls(four)
    four.order_fault(CREATE, "hang", when=when, times=1)
    async with lines(four) as all_lines:
        sending = asyncio.create_task(purchase.send(all_lines[0]))
        await until(calls.held)
        await killed(all_lines[0].worker, sending)
    assert (await finished(four, purchase)).status == "completed"
    assert len(purchase.jobs(four)) == jobs_made


async def test_killed_between_the_payment_and_its_commit(four: Fleet) -> None:
    purchase, calls = Purchase(), Calls(four)
    four.order_fault(CREATE, "latency", seconds=0.5)
    async with lines(four) as all_lines:
        sending = asyncio.create_task(purchase.send(all_lines[0]))
        await until(calls.held)
        with closing(psycopg2.connect(four.postgres.url)) as ours:
            cursor = ours.cursor()
            mine = "SELECT FROM jobs WHERE identifier_from_purchaser = %s FOR UPDATE"
            cursor.execute(mine, (purchase.identifier,))
            await until(lambda: four.rows(WAITING))
            await killed(all_lines[0].worker, sending)
            # PostgreSQL notices that a client is gone only when it answers; this one never commits.
            four.rows(f"SELECT pg_terminate_backend(pid) FROM ({WAITING}) AS waiting")
    [job] = purchase.jobs(four)
    assert job["state"] == "creating"
    told = await finished(four, purchase)
    assert told.jobs == {job["id"]}


async def test_killed_replica_during_the_run(four: Fleet, tmp_path: Path) -> None:
    with held_runner() as runner:
        flows = tmp_path / "flows.json"
        flows.write_text(json.dumps({"flows": [held_flow(runner.url)]}))
        four.tollgate("flows", "import", str(flows))
        purchase = Purchase("held", {"note": "x"})
        async with lines(four) as all_lines:
            job = (await purchase.send(all_lines[0])).body["id"]
        await until(lambda: runner.starts[job] == 1)
        holder = pid_of(four.rows(LEASES)[0]["lease_owner"])
        [replica] = [replica for replica in four.replicas if holder in replica.workers()]
        replica.kill()
        await until(lambda: runner.starts[job] == 2)
        runner.may_finish.set()
        replica.start()
        four.await_ready()
        told = await finished(four, purchase)
    assert (told.jobs, told.results) == ({job}, {f"the result of {job}"})


@pytest.mark.parametrize("when", ["before", "after"])
async def test_killed_before_the_result_is_settled(four: Fleet, when: str) -> None:
    purchase, calls = Purchase(), Calls(four)
    four.order_fault(SUBMIT, "hang", when=when, times=1)
    async with lines(four) as all_lines:
        assert (await purchase.send(all_lines[0])).status == 200
        await until(lambda: [call for call in calls.held() if call.route == SUBMIT])
        assert [job["state"] for job in purchase.jobs(four)] == ["completed"]
        for worker in four.workers():
            os.kill(worker, signal.SIGKILL)
    four.await_ready()
    await finished(four, purchase)


async def killed(worker: int, sending: asyncio.Task[Reply]) -> None:
    os.kill(worker, signal.SIGKILL)
    with pytest.raises(OSError):  # noqa: PT011 -- broken pipe or reset, as the kernel likes
        await sending


async def finished(four: Fleet, purchase: Purchase) -> Told:
    """The purchase sent again until it is a job, and that followed to its end; books in order."""
    jobs: set[str] = set()

    async def sold(line: Line) -> None:
        while (reply := await purchase.send(line)).status != 200:
            assert reply.problem == "request-in-progress", reply
            hasten(four)
            await asyncio.sleep(0.1)
        jobs.add(reply.body["id"])

    async with asyncio.timeout(40), lines(four) as all_lines:
        for line in all_lines:
            await sold(line)
        path = f"/{purchase.reference}/status?job_id={min(jobs)}"
        while (shown := (await all_lines[0].get(path)).body)["status"] != "completed":
            hasten(four)
            await asyncio.sleep(0.1)
        while open_jobs(four):
            hasten(four)
            await asyncio.sleep(0.2)
    told = Told(purchase.identifier, frozenset(jobs), shown["status"], frozenset({shown["result"]}))
    assert audit(books(four, [told])) == ()
    return told
