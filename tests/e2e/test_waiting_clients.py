"""2,000 clients wait for news of jobs on one worker: what it costs, and who is told what when.

One story, since coming together is most of its time. Jobs are changed by plain SQL, so the worker
learns of it as it would of another worker's doing.
"""

from __future__ import annotations

import asyncio
import os
import re
import resource
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass

import psycopg2
import pytest

from scripts.bench.polling import Client, answered, clients
from scripts.bench.processes import resident_bytes
from scripts.devservers import EmbeddedValkey
from scripts.loopback import LOOPBACK
from scripts.running import ROOT
from service.jobs.waiting import LOOK_S
from tests.e2e.conftest import LIFTED
from tests.e2e.replicas import Replica, replica
from tests.support.gate import FLOWS
from tests.support.servers import Servers, scratch_directory
from tests.support.waiting import eventually

FLOW = "text-summary"
JOBS = 1_000
EACH = 2
CLIENTS = JOBS * EACH
OPEN_JOBS = """
INSERT INTO jobs (id, flow_uid, flow_slug, variant, free, state, status_id, principal, input_data,
                  runner_input, input_hash, due_at, run_deadline)
SELECT gen_random_uuid(), uid, slug, 'free', true, 'running', gen_random_uuid(), 'test', '{}', '{}',
       'h', now() + interval '1 day', now() + interval '2 days'
FROM flows, generate_series(1, %s) WHERE slug = %s
RETURNING id::text
"""
COMPLETE = """
UPDATE jobs SET state = 'completed', status_id = gen_random_uuid(), seq = seq + 1, result = 'done'
WHERE id = %s
"""
CUT_ALL = """
SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
WHERE datname = current_database() AND application_name LIKE 'tollgate%%'
"""

pytestmark = pytest.mark.timeout(120)


@dataclass(frozen=True, slots=True)
class Worker:
    """One worker of a replica, and the database behind it."""

    replica: Replica
    database_url: str

    @property
    def pid(self) -> int:
        return self.replica.workers()[-1]

    def sql(self, statement: str, *params: object) -> list[str]:
        with closing(psycopg2.connect(self.database_url)) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(statement, params)
                return [row[0] for row in cursor.fetchall()] if cursor.description else []

    def measure(self, name: str) -> float:
        url = f"http://{LOOPBACK}:{self.replica.internal_port}/metrics"
        with urllib.request.urlopen(url, timeout=20) as page:
            found = re.search(rf"^{name} (\S+)$", page.read().decode(), re.MULTILINE)
        assert found, name
        return float(found[1])


@pytest.fixture
def worker(servers: Servers) -> Iterator[Worker]:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with (
        scratch_directory() as home,
        EmbeddedValkey(home / "valkey") as valkey,
        servers.cloned_database() as database_url,
    ):
        environment = {
            **os.environ,
            **LIFTED,
            "TOLLGATE_DATABASE__URL": database_url,
            "TOLLGATE_DATABASE__POOL_MIN": "1",
            "TOLLGATE_DATABASE__POOL_MAX": "4",
            "TOLLGATE_REDIS__URL": valkey.url,
            "TOLLGATE_PAYMENT__URL": f"http://{LOOPBACK}:9",  # nothing is sold
            "TOLLGATE_PAYMENT__API_KEY": "unused",
            "TOLLGATE_SERVER__ROLE": "web",
            "TOLLGATE_SERVER__WORKERS": "1",
            "TOLLGATE_SERVER__DRAIN_DELAY": "0",
            "TOLLGATE_OVERLOAD__LEAST_REQUESTS": "16",  # as in service
        }
        command = (sys.executable, "-m", "service")
        subprocess.run([*command, "flows", "import", FLOWS], cwd=ROOT, env=environment, check=True)
        # As by an operator whose shell lets a process have 256 open files at first.
        shell = ("sh", "-c", f"ulimit -S -n 256; exec {' '.join(command)} serve")
        with replica(home / "replica.log", environment, command=shell) as started:
            eventually(started.ready, within_s=60)
            yield Worker(started, database_url)


async def test_two_thousand_wait_for_little_and_are_told_at_once(worker: Worker) -> None:
    jobs = worker.sql(OPEN_JOBS, JOBS, FLOW)
    before_bytes = resident_bytes(worker.pid)
    coming = Coming()
    async with clients(worker.replica.port, CLIENTS, coming.answered) as crowd:
        for number, client in enumerate(crowd):
            client.ask(f"/{FLOW}/status?job_id={jobs[number // EACH]}&wait=25")
        await waiting(worker, CLIENTS)
        coming.over = True
        assert (resident_bytes(worker.pid) - before_bytes) / CLIENTS < 100_000
        first, second = crowd[:EACH], crowd[EACH : 2 * EACH]
        staying, leaving = crowd[2 * EACH : -500], crowd[-500:]
        await only_those_concerned_are_told(worker, jobs[0], first, crowd[EACH:])

        # Who leaves frees a place, without being told of it by the server.
        for client in leaving:
            client.transport.abort()
        await waiting(worker, len(staying) + EACH)

        # With every connection to PostgreSQL messages are lost: jobs are looked after.
        worker.sql(CUT_ALL)
        worker.sql(COMPLETE, jobs[1])
        await answered(second, within_s=2 * LOOK_S)
        assert all(b'"status":"completed"' in client.answer for client in second)
        assert [client for client in staying if client.answered_s] == []

        # The worker leaves: all others are told what is known, and to go elsewhere.
        os.kill(worker.pid, signal.SIGTERM)
        await answered(staying, within_s=25)
        assert {client.status for client in staying} == {200}
        assert all("\r\nConnection: close" in client.head for client in staying)


class Coming:
    """So many at once may be too many: until all have come, who is told to come again later does,
    and who has waited in vain asks again.
    """

    over = False

    def answered(self, client: Client) -> None:
        if self.over:
            return
        later = re.search(r"Retry-After: (\d+)", client.head)
        assert client.status == (503 if later else 200), client.answer
        pause_s = int(later[1]) if later else 0
        asyncio.get_running_loop().call_later(pause_s, client.ask, client.path)


async def only_those_concerned_are_told(
    worker: Worker, job: str, concerned: list[Client], others: list[Client]
) -> None:
    """The job changes; and PostgreSQL hears only once in a while of all who wait."""
    queries, since_s = worker.measure("tollgate_status_queries_total"), time.monotonic()
    worker.sql(COMPLETE, job)
    await answered(concerned, within_s=LOOK_S / 2)
    assert all(b'"status":"completed"' in client.answer for client in concerned)
    await asyncio.sleep(1.5)  # somebody told by mistake would have been
    assert [client for client in others if client.answered_s] == []
    asked = worker.measure("tollgate_status_queries_total") - queries
    assert asked / (time.monotonic() - since_s) < CLIENTS / 20


async def waiting(worker: Worker, number: int) -> None:
    """Until so many wait, as the worker counts them."""
    await asyncio.to_thread(eventually, lambda: worker.measure("tollgate_status_waiting") == number)
