"""What polling ``/status`` costs, and waiting for it: ``python -m scripts.bench.status``.

One worker on one core, everything else on the other. Queries are counted by PostgreSQL itself, less
what the service does without any client.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import shutil
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import psycopg2

from scripts.account import scratch
from scripts.bench.contestants import LIFTED, Contestant, tollgate
from scripts.bench.polling import Polled, answered, clients, poll
from scripts.bench.processes import cores, cpu_s, on, resident_bytes
from scripts.devservers import EmbeddedPostgres, EmbeddedValkey

CONNECTIONS = 64
JOBS = 1_000
WAITING = 2_000
#: PostgreSQL's backends report what they have done this long after it at the latest.
REPORTED_S = 10.5
FLOW = "text-summary"
_OPEN = """
INSERT INTO jobs (id, flow_uid, flow_slug, variant, free, state, status_id, principal, input_data,
                  runner_input, input_hash, due_at, run_deadline, result, failure)
SELECT gen_random_uuid(), uid, slug, 'free', true, %(state)s, gen_random_uuid(), 'bench', '{}',
       '{}', 'h', now() + interval '1 day', now() + interval '2 days', %(result)s, NULL
FROM flows, generate_series(1, %(number)s) WHERE slug = %(flow)s
RETURNING id
"""
_CHANGE = """
UPDATE jobs SET state = 'completed', status_id = gen_random_uuid(), seq = seq + 1, result = 'done'
WHERE id = %(id)s
"""


@dataclass(frozen=True, slots=True)
class Figures:
    """Of one kind of polling; CPU in µs a poll."""

    what: str
    polls_per_second: float
    worker_cpu_us: float
    postgres_cpu_us: float
    queries_per_poll: float
    p50_ms: float
    p99_ms: float


class Bench:
    def __init__(self, service: Contestant, postgres: EmbeddedPostgres, seconds: float) -> None:
        self._service = service
        self._port = int(service.url.rpartition(":")[2])
        self._seconds = seconds
        self._postgres = postgres.pid
        self._connection = psycopg2.connect(postgres.url)
        self._connection.autocommit = True

    def jobs(self, number: int, state: str) -> list[str]:
        result = "A summary of some length. " * 8 if state == "completed" else None
        with self._connection.cursor() as cursor:
            cursor.execute(
                _OPEN, {"state": state, "number": number, "flow": FLOW, "result": result}
            )
            return [row[0] for row in cursor.fetchall()]

    def polling(self, what: str, jobs: list[str]) -> Figures:
        paths = [f"/{FLOW}/status?job_id={job}" for job in jobs]

        async def run(seconds: float) -> Polled:
            return await poll(self._port, paths, connections=CONNECTIONS, seconds=seconds)

        asyncio.run(run(0.5))
        idle = self._idle_rate()
        queries, began_s = self._queries(), time.monotonic()
        cpu, database = cpu_s(self._service.pid), self._database_cpu_s()
        polled = asyncio.run(run(self._seconds))
        cpu, database = cpu_s(self._service.pid) - cpu, self._database_cpu_s() - database
        grown = self._queries() - queries - idle * (time.monotonic() - began_s)
        return Figures(
            what,
            polled.answers / polled.seconds,
            cpu / polled.answers * 1e6,
            database / polled.answers * 1e6,
            max(0.0, grown) / polled.answers,
            polled.p50_ms,
            polled.p99_ms,
        )

    def waiting(self, jobs: list[str]) -> dict[str, float]:
        """2,000 clients, two for each job: what they cost while they wait, and one change."""
        paths = [f"/{FLOW}/status?job_id={job}&wait=25" for job in jobs for _ in range(2)]
        before, idle = resident_bytes(self._service.pid), self._idle_rate()

        async def run() -> dict[str, float]:
            async with clients(self._port, len(paths)) as crowd:
                for client, path in zip(crowd, paths, strict=True):
                    client.ask(path)
                await asyncio.sleep(2.0)  # all of them wait by now
                waiting = resident_bytes(self._service.pid)
                cpu, began_s = cpu_s(self._service.pid), time.monotonic()
                await asyncio.sleep(8.0)  # the moment that is measured
                cpu = (cpu_s(self._service.pid) - cpu) / (time.monotonic() - began_s)
                changed_s = time.monotonic()
                await asyncio.to_thread(self._change, jobs[0])
                await answered(crowd[:2], within_s=20)
                told_s = max(client.answered_s or 0.0 for client in crowd[:2]) - changed_s
                await asyncio.sleep(0.5)  # somebody told by mistake would have been
                return {
                    "bytes_per_client": (waiting - before) / len(paths),
                    "cpu_share_while_waiting": cpu,
                    "told_after_ms": told_s * 1000,
                    "others_told": sum(client.answered_s is not None for client in crowd[2:]),
                }

        queries, began_s = self._queries(), time.monotonic()
        figures = asyncio.run(run())
        elapsed_s = time.monotonic() - began_s
        grown = self._queries() - queries - idle * (time.monotonic() - began_s)
        return {**figures, "queries": grown, "queries_per_second": grown / elapsed_s}

    def _change(self, job: str) -> None:
        with self._connection.cursor() as cursor:
            cursor.execute(_CHANGE, {"id": job})

    def _queries(self) -> int:
        time.sleep(REPORTED_S)  # until the server has counted them
        with self._connection.cursor() as cursor:
            cursor.execute(
                "SELECT pg_stat_clear_snapshot(), xact_commit + xact_rollback"
                " FROM pg_stat_database WHERE datname = current_database()"
            )
            [[_, number]] = cursor.fetchall()
        return int(number)

    def _idle_rate(self) -> float:
        first, began_s = self._queries(), time.monotonic()
        return (self._queries() - first) / (time.monotonic() - began_s)

    def _database_cpu_s(self) -> float:
        """Of the server with all its backends."""
        children = Path(f"/proc/{self._postgres}/task/{self._postgres}/children").read_text()
        total = 0.0
        for pid in (self._postgres, *map(int, children.split())):
            with contextlib.suppress(FileNotFoundError):
                total += cpu_s(pid)
        return total


def main() -> int:
    parser = argparse.ArgumentParser(description="What polling /status costs.")
    parser.add_argument("--seconds", type=float, default=3.0)
    options = parser.parse_args()
    home, chosen = scratch(), cores()
    try:
        with (
            on(chosen.asking),
            EmbeddedValkey(home / "valkey") as valkey,
            EmbeddedPostgres(home / "postgres", durable=False) as postgres,
            tollgate(
                chosen,
                home / "service",
                {
                    **LIFTED,
                    "TOLLGATE_LOGGING__ACCESS_SAMPLE": "0",
                    "TOLLGATE_DATABASE__URL": postgres.url,
                    "TOLLGATE_REDIS__URL": valkey.url,
                },
                "Tollgate",
            ) as service,
        ):
            bench = Bench(service, postgres, options.seconds)
            running, done = bench.jobs(JOBS, "running"), bench.jobs(JOBS, "completed")
            for what, jobs in (
                ("one running job", running[:1]),
                ("1,000 running jobs", running),
                ("one finished job", done[:1]),
                ("1,000 finished jobs", done),
            ):
                print(json.dumps(asdict(bench.polling(what, jobs))), flush=True)
            print(json.dumps(bench.waiting(running)), flush=True)
    finally:
        shutil.rmtree(home)
    return 0


if __name__ == "__main__":
    sys.exit(main())
