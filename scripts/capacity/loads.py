"""What is asked of a replica while it is measured: each load is of one kind of request."""

from __future__ import annotations

import asyncio
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import aiohttp
import psycopg2

from scripts.bench.load import Generator, Load, LoadFailed
from scripts.bench.polling import poll
from scripts.capacity.ground import Replica
from scripts.capacity.meter import Used, between

#: For each worker, so that it finds as much to do in one turn of its loop however many there are.
CONNECTIONS = 64
FLOW = "text-summary"
#: At least, of those that are to be refused: first come the contents of a bucket.
_REFUSED = 0.9
#: At most, of the others: on a machine that others keep busy, too, a few run out of time.
_OTHERS = 0.02
_TEXT = (
    "Toll roads were dear. Travellers took the toll roads all the same. They were faster."
    " By 1840 more than a thousand trusts kept them."
)
#: Fields as a job has them; those that are to be polled are never run.
_JOBS = """
INSERT INTO jobs (id, flow_uid, flow_slug, variant, free, state, status_id, principal, input_data,
                  runner_input, input_hash, due_at, run_deadline, result, lease_owner, lease_until)
SELECT gen_random_uuid(), uid, slug, 'free', true, %(state)s, gen_random_uuid(), 'capacity', '{}',
       '{}', 'h', now() + interval '1 day', now() + interval '2 days', %(result)s,
       CASE WHEN %(state)s = 'running' THEN 'nobody' END,
       CASE WHEN %(state)s = 'running' THEN now() + interval '1 day' END
  FROM flows, generate_series(1, %(number)s) WHERE slug = %(flow)s
RETURNING id
"""
_OPEN = """
SELECT count(*) FROM jobs
 WHERE principal <> 'capacity' AND state <> 'failed'
   AND (state <> 'completed' OR (NOT free AND on_chain_state IS DISTINCT FROM 'ResultSubmitted'))
"""
_CHANGE = """
UPDATE jobs SET status_id = gen_random_uuid(), seq = seq + 1 WHERE id = %(id)s
"""
#: Paying, confirming and settling are a second each in the sandbox.
JOBS_END_S = 60.0
#: Between two looks whether all jobs have ended.
_LOOK_S = 0.25


@dataclass(frozen=True, slots=True)
class Measured:
    """One load and what it used."""

    requests: int
    per_second: float
    p99_ms: float
    used: Used
    #: Notifications that PostgreSQL sent meanwhile; only jobs are asked about theirs.
    told: int = 0

    def us(self, part: str) -> float:
        return self.used.cpu_s[part] / self.requests * 1e6


def plain(
    one: Replica,
    generator: Generator,
    path: str,
    seconds: float,
    *,
    connections: int = CONNECTIONS,
    per_second: float | None = None,
    principals: int = 0,
    refused: bool = False,
) -> Measured:
    """As fast as answers come or so many a second, ``connections`` to each worker.

    ``refused``: nearly all requests are to be, else none.
    """
    load = Load(
        f"{one.service.url}{path}",
        seconds,
        connections * one.workers,
        per_second=per_second,
        principals=principals,
    )
    first = one.meter.read()
    outcome = generator.offer(load)
    used = between(first, one.meter.read())
    share = outcome.refused / outcome.requests
    if share < _REFUSED if refused else share > _OTHERS:
        raise LoadFailed(f"{path}: {outcome.refused} of {outcome.requests} were refused")
    return Measured(outcome.requests, outcome.per_second, outcome.p99_ms, used)


def polls(
    one: Replica, jobs: Sequence[str], seconds: float, connections: int, *, counted: bool = False
) -> Measured:
    """Clients that ask for one status after the other; ``counted``: queries, too."""
    port = int(one.service.url.rpartition(":")[2])
    paths = [f"/{FLOW}/status?job_id={job}" for job in jobs]
    first = one.meter.read(handed_over=counted)
    polled = asyncio.run(poll(port, paths, connections=connections, seconds=seconds))
    used = between(first, one.meter.read(handed_over=counted))
    return Measured(polled.answers, polled.answers / polled.seconds, polled.p99_ms, used)


def standing(one: Replica, number: int, state: str) -> list[str]:
    """Jobs that are there to be polled: running ones stay so."""
    result = _TEXT * 2 if state == "completed" else None
    values = {"state": state, "number": number, "flow": FLOW, "result": result}
    return [row[0] for row in one.meter.execute(_JOBS, values)]


def jobs(one: Replica, number: int, *, paid: bool) -> Measured:
    """So many, begun as fast as they are taken, until the last has been run and settled."""
    one.meter.hear()
    first, began_s = one.meter.read(handed_over=True), time.monotonic()
    asyncio.run(_begin(one.service.url, number, paid=paid))
    begun_s = time.monotonic() - began_s
    while one.meter.execute(_OPEN)[0][0]:
        if time.monotonic() - began_s > JOBS_END_S:
            raise LoadFailed(f"{one.meter.execute(_OPEN)[0][0]} of {number} jobs did not end")
        time.sleep(_LOOK_S)  # each look is a query, and its cost is measured with the jobs'
    used = between(first, one.meter.read(handed_over=True))
    return Measured(number, number / begun_s, 0.0, used, one.meter.heard())


def middle(runs: Sequence[Measured]) -> Measured:
    """The one whose requests cost neither most nor least."""
    return sorted(runs, key=lambda run: run.us("workers"))[len(runs) // 2]


async def _begin(url: str, number: int, *, paid: bool) -> None:
    path = f"{url}/{FLOW}{'' if paid else '+free'}/start_job"
    left = iter(range(number))
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session, asyncio.TaskGroup() as group:

        async def buyer() -> None:
            for count in left:
                body: dict[str, object] = {"input_data": {"text": f"{_TEXT} {count}."}}
                if paid:
                    body["identifier_from_purchaser"] = secrets.token_hex(8)
                async with session.post(path, json=body) as answer:
                    if answer.status >= 400:
                        raise LoadFailed(f"start_job: {answer.status} {await answer.text()}")
                    await answer.read()

        for _ in range(16):
            group.create_task(buyer())


def told_per_s(database_url: str, jobs: Sequence[str], seconds: float) -> float:
    """Changes of status a second that PostgreSQL commits and tells, each job's by one client."""
    over = threading.Event()

    def change(job: str) -> int:
        connection = psycopg2.connect(database_url)
        try:
            done = 0
            while not over.is_set():
                with connection.cursor() as cursor:
                    cursor.execute(_CHANGE, {"id": job})
                connection.commit()
                done += 1
            return done
        finally:
            connection.close()

    return _count(change, jobs, over, seconds) / seconds


def _count(
    work: Callable[[str], int], items: Sequence[str], over: threading.Event, seconds: float
) -> int:
    with ThreadPoolExecutor(len(items)) as pool:
        running = [pool.submit(work, item) for item in items]
        over.wait(seconds)
        over.set()
        return sum(one.result() for one in running)
