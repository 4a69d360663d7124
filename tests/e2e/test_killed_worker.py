"""Any worker may die at any moment: its jobs go on elsewhere, and complete once."""

from __future__ import annotations

import os
import secrets
import signal
from pathlib import Path

from tests.e2e.conftest import Site
from tests.e2e.runner import held_runner
from tests.support.house import AGENT
from tests.support.waiting import eventually

LEASES = "SELECT id, lease_owner FROM jobs WHERE lease_owner IS NOT NULL"


def test_jobs_of_a_killed_worker_complete_exactly_once(tollgate: Site, tmp_path: Path) -> None:
    jobs = 6
    with held_runner() as runner:
        tollgate.import_flow(held_flow(runner.url), tmp_path)
        bought = [buy(tollgate) for _ in range(jobs)]
        eventually(lambda: len(runner.starts) == jobs, what="every run has begun")

        killed, theirs = kill_one_worker(tollgate)
        eventually(
            lambda: all(runner.starts[job] == 2 for job in theirs), what="their runs begin again"
        )
        runner.may_finish.set()
        for job in bought:
            eventually(lambda job=job: status(tollgate, job)["status"] == "completed")

        assert {job: status(tollgate, job)["result"] for job in bought} == {
            job: f"the result of {job}" for job in bought
        }
        eventually(lambda: settled(tollgate, bought), what="every result is on the chain")
        assert all(runner.starts[job] == 1 for job in set(bought) - theirs)
    assert not any(row["lease_owner"] for row in tollgate.rows(LEASES))
    events = tollgate.rows(
        "SELECT job_id::text, count(*) AS n FROM job_events WHERE state = 'completed'"
        " AND job_id = ANY(%(jobs)s::uuid[]) GROUP BY job_id",
        jobs=bought,
    )
    assert [(event["n"]) for event in events] == [1] * jobs
    payments = [p for p in tollgate.books()["payments"] if p["metadata"] in bought]
    assert sorted(p["metadata"] for p in payments) == sorted(bought)
    assert all(len(p["submitted"]) == 1 for p in payments)
    assert killed not in {pid_of(row["lease_owner"]) for row in tollgate.rows(LEASES)}


def held_flow(url: str) -> dict[str, object]:
    return {
        "slug": "held",
        "name": "Held until told otherwise",
        "version": "1",
        "input_schema": {"input_data": [{"id": "note", "type": "text", "name": "Note"}]},
        "variants": {"standard": {"agent_identifier": AGENT}},
        "default_variant": "standard",
        "runner": {"kind": "http", "target": url},
        "demo": {"input": {"note": "x"}, "output": "y"},
    }


def buy(tollgate: Site) -> str:
    sold = tollgate.post(
        "/held/start_job",
        {"identifier_from_purchaser": secrets.token_hex(8), "input_data": {"note": "x"}},
    )
    assert sold.status == 200, sold.body
    return str(sold.body["id"])


def status(tollgate: Site, job: str) -> dict[str, str]:
    answer = tollgate.get(f"/held/status?job_id={job}")
    assert answer.status == 200, answer.body
    body: dict[str, str] = answer.body
    return body


def settled(tollgate: Site, jobs: list[str]) -> bool:
    rows = tollgate.rows("SELECT settlement FROM jobs WHERE id = ANY(%(jobs)s::uuid[])", jobs=jobs)
    return all(row["settlement"] == "settled" for row in rows)


def kill_one_worker(tollgate: Site) -> tuple[int, set[str]]:
    """Whoever holds the first job; its pid, and all the jobs it held."""
    leases = tollgate.rows(LEASES)
    pid = pid_of(leases[0]["lease_owner"])
    os.kill(pid, signal.SIGKILL)
    return pid, {str(row["id"]) for row in leases if pid_of(row["lease_owner"]) == pid}


def pid_of(lease_owner: str) -> int:
    return int(lease_owner.split(":")[1])
