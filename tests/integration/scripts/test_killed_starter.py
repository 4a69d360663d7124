"""Whatever happens to the process that started the servers, none of them stays."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from scripts.devservers import EmbeddedPostgres
from scripts.keeper import family
from scripts.processes import alive
from tests.integration.scripts.test_embedded_servers import listens, recall
from tests.support.servers import scratch_directory
from tests.support.waiting import eventually

ROOT = Path(__file__).resolve().parents[3]
PROGRAM = """
import json, sys, threading
from pathlib import Path
from scripts.devservers import devservers
from scripts.lock import LOCK, only_one
from tests.support.servers import execute

run = Path(sys.argv[1])
with only_one(run / LOCK), devservers(run, database_url=None, redis_url=None) as servers:
    execute(servers.database_url, "CREATE TABLE memory AS SELECT 42 AS answer")
    print(json.dumps([[s.pid, s.port] for s in servers.started]), flush=True)
    threading.Event().wait()
"""


@dataclass(frozen=True, slots=True)
class Starter:
    process: subprocess.Popen[str]
    home: Path
    pids: tuple[int, ...]
    ports: tuple[int, ...]

    def gone(self) -> bool:
        return not any(map(alive, self.pids)) and not any(map(listens, self.ports))


@pytest.fixture
def starter() -> Iterator[Starter]:
    with scratch_directory() as home:
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(home)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        pairs = json.loads(process.stdout.readline())
        started = Starter(process, home, tuple(p for p, _ in pairs), tuple(p for _, p in pairs))
        yield started
        process.kill()
        process.__exit__(None, None, None)
        eventually(started.gone)


def test_servers_end_with_a_starter_that_was_killed(starter: Starter) -> None:
    everything = family(starter.process.pid)
    assert set(starter.pids) < set(everything)
    starter.process.kill()
    starter.process.wait()
    eventually(starter.gone, what="servers gone")
    eventually(lambda: not any(map(alive, everything)), what="keepers and backends gone")


def test_servers_survive_signals_meant_for_the_whole_terminal(starter: Starter) -> None:
    """Ctrl-C reaches the group of the terminal; the servers must outlast the service in it."""
    with pytest.raises(ProcessLookupError):
        os.killpg(starter.pids[0], 0)  # a server leads no group of its own ...
    assert os.getpgid(starter.pids[0]) != os.getpgid(starter.process.pid)  # ... and is not in ours


def test_everything_killed_at_once_is_healed_by_the_next_start(starter: Starter) -> None:
    for pid in family(starter.process.pid):
        with contextlib.suppress(ProcessLookupError):  # its parent was told first
            os.kill(pid, signal.SIGKILL)
    starter.process.wait()
    eventually(starter.gone, what="processes gone")
    with EmbeddedPostgres(starter.home / "postgres") as server:
        assert recall(server) == 42


def test_second_start_in_one_checkout_says_who_runs_already(starter: Starter) -> None:
    second = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(starter.home)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert second.returncode != 0
    assert f"already running in this checkout (process {starter.process.pid})" in second.stderr
    assert all(map(alive, starter.pids))
