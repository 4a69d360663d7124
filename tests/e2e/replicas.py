"""Replicas of the real service on one Redis: ``tollgate serve`` and nothing else, so that several
start in seconds and each may have a clock of its own.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redis import Redis

from scripts.kept import Kept, Order
from scripts.loopback import LOOPBACK, free_port
from scripts.running import ROOT
from service.store import keys
from tests.e2e.clocks import skewed
from tests.e2e.windows import Limit
from tests.support.waiting import eventually

WORKERS = 2
#: One replica's clock is this far behind in all of these tests.
BEHIND_S = -37
#: Where each limit is met. Nobody sells flows here: what is let in is answered 200 or 404.
PATHS = {
    "input_schema": "/nothing/input_schema",
    "health": "/health",
    "availability": "/nothing/availability",
    "default": "/nothing",
    "flows": "/flows",
    "demo": "/nothing/demo",
}


@dataclass(frozen=True, slots=True)
class Replica:
    program: Kept
    port: int
    internal_port: int
    log: Path

    def workers(self) -> list[int]:
        """The pids of all workers there have been, oldest first."""
        return [entry["worker"] for entry in self.entries("worker_ready")]

    def entries(self, event: str) -> list[dict[str, Any]]:
        """What was logged of this event so far."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        entries = [json.loads(line) for line in lines if line.startswith("{")]
        return [entry for entry in entries if entry["event"] == event]

    def ready(self) -> bool:
        assert self.program.alive, self.log.read_text()[-4000:]
        try:
            with urllib.request.urlopen(
                f"http://{LOOPBACK}:{self.internal_port}/readyz", timeout=5
            ) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False


@contextmanager
def replicas(
    home: Path,
    database_url: str,
    redis_urls: list[str],
    limits: Mapping[str, Limit],
    *,
    workers: int = WORKERS,
) -> Iterator[list[Replica]]:
    """One for each URL, all ready and known to each other where they share a Redis."""
    units = {1: "second", 60: "minute", 3600: "hour", 86400: "day"}
    settings = {
        "TOLLGATE_DATABASE__URL": database_url,
        "TOLLGATE_DATABASE__POOL_MIN": "1",
        "TOLLGATE_DATABASE__POOL_MAX": "4",
        # Nothing is sold: nobody will call it.
        "TOLLGATE_PAYMENT__URL": f"http://{LOOPBACK}:9",
        "TOLLGATE_PAYMENT__API_KEY": "unused",
        "TOLLGATE_SERVER__ROLE": "web",
        "TOLLGATE_SERVER__WORKERS": str(workers),
        "TOLLGATE_SERVER__DRAIN_DELAY": "0",
        # Asked as fast as can be, on a machine that has other things to do.
        "TOLLGATE_OVERLOAD__LEAST_REQUESTS": "1000",
        "TOLLGATE_SERVER__TRUSTED_PROXIES": f"{LOOPBACK}/32",
        "TOLLGATE_LOGGING__ACCESS_SAMPLE": "0",
    }
    for name, limit in limits.items():
        prefix = f"TOLLGATE_LIMITS__{name.upper()}"
        settings[f"{prefix}__RATE"] = f"{limit.tokens}/{units[limit.period_s]}"
        settings[f"{prefix}__BURST"] = str(limit.burst)
    with ExitStack() as stack:
        started = []
        for number, url in enumerate(redis_urls):
            clock = skewed(BEHIND_S, path=ROOT, sleeps=True) if number % 2 else {}
            environment = {**os.environ, **settings, **clock, "TOLLGATE_REDIS__URL": url}
            started.append(stack.enter_context(replica(home / f"replica-{number}", environment)))
        eventually(lambda: all(replica.ready() for replica in started), within_s=60)
        _await_acquaintance(redis_urls, workers)
        yield started


@contextmanager
def replica(
    log: Path,
    environment: Mapping[str, str],
    *,
    command: tuple[str, ...] = (sys.executable, "-m", "service", "serve"),
) -> Iterator[Replica]:
    """Started, but not yet ready."""
    port, internal = free_port(), free_port()
    program = Kept(
        Order(
            command=command,
            directory=ROOT,
            environment={
                **environment,
                "TOLLGATE_SERVER__PORT": str(port),
                "TOLLGATE_SERVER__INTERNAL_PORT": str(internal),
            },
            stop_signals=(signal.SIGTERM,),
            grace_s=20.0,
            log=log,
        )
    )
    try:
        yield Replica(program, port, internal, log)
    finally:
        program.stop()


def _await_acquaintance(redis_urls: list[str], workers: int) -> None:
    """Until every worker counts: their shares without Redis depend on it."""
    for url in set(redis_urls):
        expected = workers * redis_urls.count(url)
        with Redis.from_url(url) as client:
            eventually(lambda: client.zcard(keys.workers()) == expected)  # noqa: B023
