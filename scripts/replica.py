"""One replica: ``tollgate serve`` on ports of its own, which it keeps over its deaths."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scripts.chaos.exchange import exchange
from scripts.keeper import parents
from scripts.kept import Kept, Order
from scripts.loopback import LOOPBACK, free_port
from scripts.running import ROOT

#: Where what it has in hand is of no interest when it is stopped.
GRACE_S = 20.0
PROBE_TIMEOUT_S = 5.0


class Replica:
    """``grace_s``: how long it may take to leave when asked to."""

    def __init__(
        self, log: Path, environment: Mapping[str, str], *, workers: int, grace_s: float = GRACE_S
    ) -> None:
        self.port, self.internal_port = free_port(), free_port()
        self.log = log
        self._grace_s = grace_s
        self._size = workers
        #: For its next start; ports and workers stay.
        self.environment = environment
        self._own = {
            "TOLLGATE_SERVER__WORKERS": str(workers),
            "TOLLGATE_SERVER__PORT": str(self.port),
            "TOLLGATE_SERVER__INTERNAL_PORT": str(self.internal_port),
        }
        self._program: Kept | None = None

    def __repr__(self) -> str:
        return f"<Replica {self.url} {'up' if self.alive else 'down'}>"

    @property
    def internal_url(self) -> str:
        return f"http://{LOOPBACK}:{self.internal_port}"

    @property
    def pid(self) -> int:
        """The master's; 0 before the first start."""
        return self._program.pid if self._program else 0

    @property
    def exit_code(self) -> int | None:
        return self._program.exit_code if self._program else None

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"

    @property
    def alive(self) -> bool:
        return self._program is not None and self._program.alive

    def start(self) -> None:
        """Begin to; ``ready`` tells when it serves."""
        self._program = Kept(
            Order(
                command=(sys.executable, "-m", "service", "serve"),
                directory=ROOT,
                environment={**self.environment, **self._own},
                stop_signals=(signal.SIGTERM,),
                grace_s=self._grace_s,
                log=self.log,
            )
        )

    def ask_to_stop(self) -> None:
        if self._program:
            self._program.ask_to_stop()

    def wait(self, limit_s: float) -> bool:
        """Whether it has ended, after at most this long."""
        return self._program is None or self._program.wait(limit_s)

    def stop(self) -> None:
        if self._program:
            self._program.stop()

    def kill(self) -> None:
        """SIGKILL to the master and all workers."""
        if self._program:
            self._program.kill()

    def workers(self) -> list[int]:
        """The pids of those that live now, starting ones too."""
        if self._program is None or not self._program.alive:
            return []
        master = self._program.pid
        return [child for child, parent in parents() if parent == master]

    def complete(self) -> bool:
        """All its workers live, and each has said that it serves."""
        serving = {entry["worker"] for entry in self.entries("worker_ready")}
        living = self.workers()
        return len(living) == self._size and serving.issuperset(living)

    def ready(self) -> bool:
        try:
            port, limit_s = self.internal_port, PROBE_TIMEOUT_S
            return exchange(port, "GET", "/readyz", timeout_s=limit_s)[0] == 200
        except OSError:
            return False

    def entries(self, event: str) -> list[dict[str, Any]]:
        """What was logged of this event, over all its lives."""
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        lines = [line for line in text.splitlines() if f'"event":"{event}"' in line]
        return [entry for line in lines if (entry := _parsed(line)) is not None]

    def log_end(self) -> str:
        return self.log.read_text(errors="replace")[-4000:] if self.log.exists() else ""


def bare_environment() -> dict[str, str]:
    """This process's, without what would reach into the replicas' settings."""
    foreign = ("TOLLGATE_", "PG", "PROMETHEUS_")
    return {name: value for name, value in os.environ.items() if not name.startswith(foreign)}


def _parsed(line: str) -> dict[str, Any] | None:
    """None for a line that a kill tore."""
    try:
        entry: dict[str, Any] = json.loads(line)
    except ValueError:
        return None
    return entry
