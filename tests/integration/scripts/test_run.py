"""``make run`` as its user meets it: it sells, it stops, and it leaves nothing behind."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from scripts import running as running_note
from scripts.first_sale import first_sale
from scripts.keeper import family
from scripts.loopback import LOOPBACK
from scripts.running import ROOT
from scripts.stack import Stack, stack
from tests.integration.scripts.test_embedded_servers import listens
from tests.integration.scripts.test_killed_starter import alive
from tests.support.servers import scratch_directory
from tests.support.waiting import eventually

#: Each test starts everything, on a machine that may be busy with much else.
pytestmark = pytest.mark.timeout(240)

SETTINGS = {"TOLLGATE_SERVER__WORKERS": "1", "TOLLGATE_DATABASE__POOL_MIN": "2"}

MakeStack = Callable[[], Stack]


@pytest.fixture
def home() -> Iterator[Path]:
    with scratch_directory() as path:
        yield path


@pytest.fixture
def start(home: Path) -> Iterator[MakeStack]:
    with ExitStack() as started:
        yield lambda: started.enter_context(stack(home, SETTINGS))


def everything(running: Stack) -> tuple[list[int], list[int]]:
    """All processes below ``make run`` and all ports it has told of."""
    return family(running.program.pid), ports_of(running.service)


def ports_of(service: running_note.Running) -> list[int]:
    urls = (service.url, service.internal_url, service.payment_url or "")
    return [urlsplit(url).port or 0 for url in urls]


def expect_nothing_left(pids: list[int], ports: list[int]) -> None:
    eventually(lambda: not any(map(alive, pids)), within_s=60, what=f"processes {pids} gone")
    assert not any(map(listens, ports))


def demonstrate(home: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "scripts.demo", "--data", str(home)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def ask_tollgate(home: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """By the command that needs no addresses: it holds those of what is up."""
    bare = {name: value for name, value in os.environ.items() if not name.startswith("TOLLGATE_")}
    return subprocess.run(
        [home / "tollgate", *arguments], cwd=ROOT, env=bare | variables, capture_output=True,
        text=True, check=False,
    )  # fmt: skip


def test_everything_sells_then_stops_on_ctrl_c_and_leaves_nothing(
    start: MakeStack, home: Path
) -> None:
    running = start()
    demonstration = demonstrate(home)
    assert demonstration.returncode == 0, demonstration.stderr
    assert "it holds the hash of the very result we were given" in demonstration.stdout
    # What is to be pasted is indented.
    lines = [line for line in first_sale(running.service.url).splitlines() if line[:2] == "  "]
    pasted = subprocess.run(
        ["sh"], input="\n".join(lines), capture_output=True, text=True, check=True
    )
    answers = [json.loads(line) for line in pasted.stdout.splitlines() if line]
    seen = [answer.get("status") for answer in answers]
    assert seen.count("completed") == 3, pasted
    assert seen.count("awaiting_input") == 1, pasted
    peeked = ask_tollgate(home, "limits", "peek", "192.0.2.7")
    assert (peeked.returncode, "ip:192.0.2.7" in peeked.stdout) == (0, True)
    assert "csv-profile" in ask_tollgate(home, "flows", "list").stdout
    elsewhere = ask_tollgate(home, "flows", "list", TOLLGATE_DATABASE__URL="mine://")
    assert "database.url is not a PostgreSQL URL" in elsewhere.stderr, "what the shell says counts"
    second = run(home, {})
    assert second.returncode == 1
    assert "already running in this checkout" in second.stderr
    pids, ports = everything(running)
    assert len(pids) > 10  # servers, keepers, sandbox, master and worker
    os.kill(running.program.pid, signal.SIGINT)
    assert running.program.wait(100)
    assert running.program.exit_code == 0
    expect_nothing_left(pids, ports)
    assert not (home / "running.json").exists()
    assert not (home / "tollgate").exists()


def test_second_run_finds_what_the_first_sold(start: MakeStack) -> None:
    first = start()
    job = ask(
        f"{first.service.url}/text-summary+free/start_job",
        {"input_data": {"text": "The first run sells this. The second one still has it."}},
    )["id"]
    path = f"/text-summary+free/status?job_id={job}"
    eventually(lambda: ask(first.service.url + path)["status"] == "completed")
    result = ask(first.service.url + path)["result"]
    first.program.stop()
    assert ask(start().service.url + path)["result"] == result


def test_killed_run_takes_everything_along(home: Path) -> None:
    """Not through a keeper of its own, as elsewhere here: nobody looks after it but itself."""
    free = {"TOLLGATE_SERVER__PORT": "0", "TOLLGATE_SERVER__INTERNAL_PORT": "0"}
    with (home / "log").open("wb") as log, subprocess.Popen(
        [sys.executable, "-m", "scripts.run", "--data", str(home)],
        cwd=ROOT, env={**os.environ, **SETTINGS, **free}, stdout=log, stderr=log,
    ) as program:  # fmt: skip
        eventually(lambda: running_note.read(home), within_s=120, what="service up")
        service = running_note.read(home)
        assert service is not None
        pids = family(program.pid)
        program.kill()
    expect_nothing_left(pids, ports_of(service))


def test_death_of_one_part_brings_down_the_rest_and_is_told(start: MakeStack) -> None:
    running = start()
    pids, ports = everything(running)
    database = next(pid for pid in pids if name_of(pid) == "postgres")
    os.kill(database, signal.SIGKILL)
    assert running.program.wait(100)
    assert running.program.exit_code == 1
    assert "PostgreSQL has ended" in running.log.read_text()
    expect_nothing_left(pids, ports)


@pytest.mark.parametrize("variable", ["TOLLGATE_SERVER__PORT", "TOLLGATE_SERVER__INTERNAL_PORT"])
def test_port_in_use_is_told_with_the_variable_that_moves_it(home: Path, variable: str) -> None:
    with socket.socket() as taken:
        taken.bind((LOOPBACK, 0))
        taken.listen()
        free = {"TOLLGATE_SERVER__PORT": "0", "TOLLGATE_SERVER__INTERNAL_PORT": "0"}
        refused = run(home, free | {variable: str(taken.getsockname()[1])})
    assert refused.returncode == 1
    assert f"set {variable} to another port" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_wrong_setting_is_one_line_and_starts_nothing(home: Path) -> None:
    refused = run(home, {"TOLLGATE_DATABASE__POOL_MAX": "many"})
    assert refused.returncode == 1
    assert "TOLLGATE_DATABASE__POOL_MAX" in refused.stderr
    assert not (home / "postgres").exists()


def run(home: Path, settings: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "scripts.run", "--data", str(home)],
        cwd=ROOT,
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        check=False,
    )


def ask(url: str, body: dict[str, object] | None = None) -> dict[str, str]:
    request = urllib.request.Request(
        url,
        data=json.dumps(body).encode() if body is not None else None,
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as response:
        return dict(json.load(response))


def name_of(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text().strip()
    return ""
