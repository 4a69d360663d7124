"""The servers that are compared: each started alone, on the cores it shall have."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import time
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from scripts.bench.load import LoadFailed
from scripts.bench.processes import Cores, move
from scripts.kept import Kept, Order
from scripts.loopback import LOOPBACK, free_port
from scripts.running import ROOT
from scripts.stack import stack
from service.settings import LimitSettings

START_TIMEOUT_S = 30.0
#: Made by ``make bench`` from config/requirements/bench.lock; holds FastAPI and slowapi.
OTHERS_PYTHON = ROOT / ".venv-bench" / "bin" / "python"
#: Nobody is refused: a burst no load here can use up.
LIFTED: Mapping[str, str] = {
    f"TOLLGATE_LIMITS__{policy.upper()}__{field}": value
    for policy in LimitSettings().route_classes
    for field, value in (("RATE", "1000000/second"), ("BURST", "1000000"))
}
#: So slow that no bucket is full again, and gone, before it has been counted.
KEPT: Mapping[str, str] = {
    "TOLLGATE_LIMITS__HEALTH__RATE": "100/day",
    "TOLLGATE_LIMITS__HEALTH__BURST": "100",
}


@dataclass(frozen=True, slots=True)
class Contestant:
    """One serving process. All of them answer ``/health`` at ``url``; asked for is ``path``."""

    name: str
    url: str
    pid: int
    path: str = "/health"


@contextlib.contextmanager
def bare(cores: Cores, *, document: str = "") -> Iterator[Contestant]:
    """The yardstick; with a JSON ``document`` it is asked for that, else for ``/health``."""
    python = str(ROOT / ".venv" / "bin" / "python")
    port = free_port()
    command = (python, "-m", "scripts.bench.bare", str(port), document or "{}")
    with _program("bare aiohttp handler", port, command) as one:
        move(one.pid, cores.serving)
        yield replace(one, path="/document") if document else one


@contextlib.contextmanager
def slowapi(cores: Cores, redis_url: str, limit: str, name: str) -> Iterator[Contestant]:
    port = free_port()
    program = str(Path(__file__).with_name("fastapi_app.py"))
    with _program(name, port, (str(OTHERS_PYTHON), program, str(port), redis_url, limit)) as one:
        move(one.pid, cores.serving)
        yield one


@contextlib.contextmanager
def tollgate(
    cores: Cores, home: Path, settings: Mapping[str, str], name: str
) -> Iterator[Contestant]:
    """All of it, as ``make run`` starts it, with one worker; ``settings`` name its servers."""
    home.mkdir()
    with stack(home, {"TOLLGATE_SERVER__WORKERS": "1", **settings}) as running:
        worker = _worker(home / "service.log")
        move(worker, cores.serving)
        yield Contestant(name, running.service.url, worker)


@contextlib.contextmanager
def _program(name: str, port: int, command: tuple[str, ...]) -> Iterator[Contestant]:
    child = Kept(
        Order(
            command=command,
            directory=ROOT,
            environment={"PATH": os.defpath, "LC_ALL": "C.UTF-8"},
            stop_signals=(signal.SIGTERM,),
        )
    )
    with answering(child, name, port) as one:
        yield one


@contextlib.contextmanager
def answering(child: Kept, name: str, port: int) -> Iterator[Contestant]:
    """A program that was just started, once it answers; stopped in the end."""
    try:
        _await_health(child, port)
        yield Contestant(name, f"http://{LOOPBACK}:{port}", child.pid)
    finally:
        child.stop()


def _await_health(child: Kept, port: int) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while not _answers(port):
        if child.wait(0.05) or time.monotonic() > deadline:
            raise LoadFailed("one of the servers to compare with did not start")


def document_of(one: Contestant) -> str:
    """What it answers to what it is asked for."""
    with urllib.request.urlopen(f"{one.url}{one.path}") as answer:  # noqa: S310 (our own address)
        text: str = answer.read().decode()
    return text


def _answers(port: int) -> bool:
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=2.0)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status < http.client.INTERNAL_SERVER_ERROR
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _worker(log: Path) -> int:
    for line in log.read_text().splitlines():
        if line.startswith("{") and (entry := json.loads(line))["event"] == "worker_ready":
            return int(entry["worker"])
    raise LoadFailed("the service has no worker")
