"""``make fleet`` as tests have it: replicas behind nginx, one of which may be killed."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg2
import psycopg2.extras
import pytest

from scripts.chaos import drill
from scripts.fleet import balancer, control
from scripts.keeper import family
from scripts.processes import alive
from scripts.running import ROOT
from scripts.stack import Stack, stack
from service.settings import LimitSettings
from tests.e2e.conftest import ask
from tests.e2e.windows import Limit
from tests.support.servers import Servers, scratch_directory
from tests.support.waiting import eventually

REPLICAS, WORKERS = 3, 2
#: The one limit that is not lifted, and where it is met: nobody sells this flow.
LIMIT, LIMITED, LIMITED_PATH = Limit(5, 1, 10), "demo", "/nothing/demo"
NEEDS_NGINX = pytest.mark.skipif(
    balancer.found() is None, reason="there is no nginx on this machine (apt-get install nginx)"
)
_SETTINGS = {
    # Its own, so that what a kill left undecided is decided in seconds.
    **drill.SETTINGS,
    **{
        f"TOLLGATE_LIMITS__{name.upper()}__RATE": "100000/second"
        for name in LimitSettings().route_classes
    },
    f"TOLLGATE_LIMITS__{LIMITED.upper()}__RATE": f"{LIMIT.tokens}/second",
    f"TOLLGATE_LIMITS__{LIMITED.upper()}__BURST": str(LIMIT.burst),
    "TOLLGATE_DATABASE__POOL_MIN": "1",
    "TOLLGATE_DATABASE__POOL_MAX": "5",
    # Only a busy machine lets one wait, and is no outage.
    "TOLLGATE_REDIS__TIMEOUT": "5",
    "TOLLGATE_REDIS__LIMITER_TIMEOUT": "5",
    "TOLLGATE_REDIS__CONNECT_TIMEOUT": "5",
    "TOLLGATE_OVERLOAD__LEAST_REQUESTS": "1000",
    "TOLLGATE_JOBS__LEASE_SECONDS": "3",
    "TOLLGATE_JOBS__POLL_INTERVAL": "0.2",
    "TOLLGATE_PAYMENT__POLL_INTERVAL": "0.3",
    "TOLLGATE_LOGGING__ACCESS_SAMPLE": "0",
}


@dataclass(frozen=True, slots=True)
class Fleet:
    """What the auditor and the load ask for (``scripts.chaos.records`` reads its books)."""

    running: Stack
    database_url: str
    home: Path

    @property
    def url(self) -> str:
        return self.running.service.url

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def order_fault(self, **fault: Any) -> None:
        url = f"{self.running.service.payment_url}/control/faults"
        assert ask(url, json.dumps(fault).encode()).status == 200

    def books(self) -> Any:
        return ask(f"{self.running.service.payment_url}/control/books").body["payments"]

    def rows(self, statement: str, **params: Any) -> list[dict[str, Any]]:
        with contextlib.closing(psycopg2.connect(self.database_url)) as connection:
            connection.autocommit = True
            cursor = connection.cursor(cursor_factory=psycopg2.extras.RealDictCursor)
            cursor.execute(statement, params)
            return [dict(row) for row in cursor.fetchall()] if cursor.description else []

    def entries(self, number: int, event: str) -> list[dict[str, Any]]:
        """What this replica (from 1) logged of the event, over all its lives."""
        text = (self.home / f"replica-{number}.log").read_text()
        # A line that is just being written is looked at the next time.
        lines = [line for line in text.splitlines(keepends=True) if line.endswith("\n")]
        entries = [json.loads(line) for line in lines if line.startswith("{")]
        return [entry for entry in entries if entry["event"] == event]

    def masters(self) -> list[int]:
        return [self.entries(number, "serving")[-1]["master"] for number in range(1, REPLICAS + 1)]

    def workers(self) -> list[int]:
        """All that live, and their masters."""
        return [pid for master in self.masters() for pid in family(master)]

    def kill(self, number: int) -> None:
        """SIGKILL to the whole of one replica; returns when its connections are closed, too."""
        pids = family(self.masters()[number - 1])
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        eventually(lambda: not any(map(alive, pids)), what="all of it has ended")

    def await_all_ready(self) -> None:
        def ready() -> bool:
            note = control.read(self.home)
            assert note is not None
            with contextlib.suppress(OSError):
                return all(
                    ask(replica["internal_url"] + "/readyz").status == 200
                    for replica in note.replicas
                )
            return False

        eventually(ready, within_s=60, what="all replicas are ready")

    def command(self, word: str) -> subprocess.CompletedProcess[str]:
        """``make fleet-restart`` and the like, to its end."""
        return subprocess.run(
            [sys.executable, "-m", "scripts.fleet", word, "--data", str(self.home)],
            cwd=ROOT, capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip


@contextmanager
def fleet(servers: Servers) -> Iterator[Fleet]:
    program = ("scripts.fleet", "up", "--replicas", str(REPLICAS), "--workers", str(WORKERS))
    with ExitStack() as on_exit:
        valkey = servers.private_valkey()
        on_exit.callback(valkey.stop)
        url = on_exit.enter_context(servers.cloned_database())
        settings = {
            **_SETTINGS,
            "TOLLGATE_DATABASE__URL": url,
            "TOLLGATE_REDIS__URL": valkey.url,
        }
        home = on_exit.enter_context(scratch_directory())
        running = on_exit.enter_context(stack(home, settings, program=program))
        yield Fleet(running, url, home)
