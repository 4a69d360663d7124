"""A fleet on this machine: replicas that share one PostgreSQL, one Valkey and one payment sandbox.

Everything in it may be killed, each part by itself, and started again where it was.
"""

from __future__ import annotations

import contextlib
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg2
import psycopg2.extras

from scripts.account import ServersUnavailable
from scripts.chaos.exchange import exchange
from scripts.devservers import EmbeddedPostgres, EmbeddedValkey
from scripts.kept import Kept, Order
from scripts.loopback import LOOPBACK, free_port
from scripts.replica import Replica, bare_environment
from scripts.running import ROOT
from service.settings import LimitSettings

DEMONSTRATION = ROOT / "config" / "flows" / "demonstration.toml"
#: Eight workers that start at once on two cores need some ten seconds.
START_TIMEOUT_S = 120.0
#: Limits are not what is tried here.
_LIFTED = {
    f"TOLLGATE_LIMITS__{name.upper()}__RATE": "100000/second"
    for name in LimitSettings().route_classes
}
#: Short leases and looks, so that a death is noticed in seconds.
_BRISK = {
    "TOLLGATE_DATABASE__POOL_MIN": "1",
    "TOLLGATE_DATABASE__POOL_MAX": "5",
    # A killed Redis refuses connections; only a busy machine lets one wait, and is no outage.
    "TOLLGATE_REDIS__TIMEOUT": "2",
    "TOLLGATE_REDIS__CONNECT_TIMEOUT": "2",
    "TOLLGATE_SERVER__DRAIN_DELAY": "0",
    "TOLLGATE_JOBS__LEASE_SECONDS": "3",
    "TOLLGATE_JOBS__POLL_INTERVAL": "0.2",
    "TOLLGATE_PAYMENT__POLL_INTERVAL": "0.3",
    "TOLLGATE_LOGGING__ACCESS_SAMPLE": "0",
}


@dataclass(frozen=True, slots=True)
class Shape:
    """What the fleet consists of, and how its world moves; ``settings`` are environment names."""

    settings: Mapping[str, str]
    replicas: int = 2
    workers: int = 2
    pay_after_s: float = 0.3
    confirm_after_s: float = 0.3


@dataclass
class Fleet:
    replicas: list[Replica]
    postgres: EmbeddedPostgres
    valkey: EmbeddedValkey
    payment_url: str
    environment: Mapping[str, str]

    def await_ready(self) -> None:
        """Every worker of every replica serves."""
        deadline = time.monotonic() + START_TIMEOUT_S
        for replica in self.replicas:
            while not (replica.ready() and replica.complete()):
                if not replica.alive or time.monotonic() > deadline:
                    raise ServersUnavailable(f"a replica did not start:\n{replica.log_end()}")
                time.sleep(0.05)

    def workers(self) -> list[int]:
        return [pid for replica in self.replicas for pid in replica.workers()]

    def entries(self, event: str) -> list[dict[str, Any]]:
        """What all replicas logged of this event, in the order of time."""
        found = [entry for replica in self.replicas for entry in replica.entries(event)]
        return sorted(found, key=lambda entry: str(entry["timestamp"]))

    def rows(self, statement: str, **params: Any) -> list[dict[str, Any]]:
        with contextlib.closing(psycopg2.connect(self.postgres.url)) as connection:
            connection.autocommit = True
            cursor = connection.cursor(cursor_factory=psycopg2.extras.RealDictCursor)
            cursor.execute(statement, params)
            return [dict(row) for row in cursor.fetchall()] if cursor.description else []

    def books(self) -> list[dict[str, Any]]:
        """Every payment the sandbox knows."""
        payments: list[dict[str, Any]] = self._control("GET", "/control/books")["payments"]
        return payments

    def calls(self) -> list[dict[str, Any]]:
        """Every call the sandbox received of late, with its moments, oldest first."""
        calls: list[dict[str, Any]] = self._control("GET", "/control/calls")["calls"]
        return calls

    def order_fault(self, route: str, kind: str, **more: Any) -> None:
        self._control("POST", "/control/faults", {"route": route, "kind": kind, **more})

    def clear_faults(self) -> None:
        self._control("DELETE", "/control/faults")

    def set_pace(self, **pace: float | None) -> None:
        self._control("POST", "/control/pace", pace)

    def tollgate(self, *arguments: str) -> None:
        """One command of the console script, on this fleet's servers."""
        done = subprocess.run(
            [sys.executable, "-m", "service", *arguments],
            cwd=ROOT, env=dict(self.environment), capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode != 0:
            raise ServersUnavailable(f"tollgate {' '.join(arguments)} failed:\n{done.stderr}")

    def _control(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        port = int(self.payment_url.rpartition(":")[2])
        status, answer = exchange(port, method, path, body)
        if status != 200:
            raise ServersUnavailable(f"{method} {path} was answered {status}: {answer}")
        return answer


@contextlib.contextmanager
def fleet(home: Path, shape: Shape) -> Iterator[Fleet]:
    """Up and ready until the block ends; ``home`` must be reachable by the servers' account."""
    with contextlib.ExitStack() as stack:
        postgres = stack.enter_context(EmbeddedPostgres(home / "postgres"))
        valkey = stack.enter_context(EmbeddedValkey(home / "valkey"))
        key = secrets.token_hex(16)
        payment_url = f"http://{LOOPBACK}:{free_port()}"
        environment = {
            **bare_environment(),
            **_LIFTED,
            **_BRISK,
            "TOLLGATE_DATABASE__URL": postgres.url,
            "TOLLGATE_REDIS__URL": valkey.url,
            "TOLLGATE_PAYMENT__URL": payment_url,
            "TOLLGATE_PAYMENT__API_KEY": key,
            **shape.settings,
        }
        replicas = [
            Replica(home / f"replica-{number}.log", environment, workers=shape.workers)
            for number in range(shape.replicas)
        ]
        made = Fleet(replicas, postgres, valkey, payment_url, environment)
        stack.enter_context(_sandbox(home / "sandbox.log", payment_url, key, shape))
        made.tollgate("migrate")
        made.tollgate("flows", "import", str(DEMONSTRATION))
        for replica in replicas:
            stack.callback(replica.stop)
            replica.start()
        made.await_ready()
        yield made
        for replica in replicas:  # all at once; ``stop`` then waits for each
            replica.ask_to_stop()


@contextlib.contextmanager
def _sandbox(log: Path, url: str, key: str, shape: Shape) -> Iterator[None]:
    pace = ("--pay-after", str(shape.pay_after_s), "--confirm-after", str(shape.confirm_after_s))
    program = Kept(
        Order(
            command=(
                sys.executable, "-m", "scripts.sandbox", "--port", url.rpartition(":")[2], *pace,
            ),
            directory=ROOT,
            environment={**bare_environment(), "SANDBOX_API_KEY": key},
            stop_signals=(signal.SIGTERM,),
            log=log,
        )
    )  # fmt: skip
    try:
        deadline = time.monotonic() + START_TIMEOUT_S
        while not _answers(url):
            if program.wait(0.05) or time.monotonic() > deadline:
                raise ServersUnavailable(f"the sandbox did not start:\n{log.read_text()}")
        yield
    finally:
        program.stop()


def _answers(url: str) -> bool:
    try:
        exchange(int(url.rpartition(":")[2]), "GET", "/control/faults")
    except OSError:
        return False
    return True
