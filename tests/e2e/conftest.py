"""The whole of Tollgate as its operators run it: processes, sockets, signals.

Each module gets one stack on servers of its own, so that it may kill what it likes.
"""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg2
import psycopg2.extras
import pytest

from scripts.devservers import EmbeddedPostgres, EmbeddedValkey
from scripts.stack import Stack, stack
from service.settings import LimitSettings
from tests.support import commands
from tests.support.servers import Servers, scratch_directory

#: Neither limits nor a busy machine are to be in a test's way.
LIFTED = {
    **{
        f"TOLLGATE_LIMITS__{name.upper()}__RATE": "100000/second"
        for name in LimitSettings().route_classes
    },
    "TOLLGATE_OVERLOAD__LEAST_REQUESTS": "1000",
}


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: Any
    body: Any


@dataclass
class Site:
    """A running Tollgate, the servers it stands on, and plain ways to ask it things."""

    running: Stack
    postgres: EmbeddedPostgres
    valkey: EmbeddedValkey
    settings: dict[str, str]
    home: Path

    def get(self, path: str, *, internal: bool = False, timeout_s: float = 40.0) -> Answer:
        service = self.running.service
        return ask((service.internal_url if internal else service.url) + path, timeout_s=timeout_s)

    def post(self, path: str, body: Any, **headers: str) -> Answer:
        return ask(self.running.service.url + path, json.dumps(body).encode(), headers)

    def books(self) -> Any:
        return ask(f"{self.running.service.payment_url}/control/books").body

    def order_fault(self, **fault: Any) -> None:
        url = f"{self.running.service.payment_url}/control/faults"
        assert ask(url, json.dumps(fault).encode()).status == 200

    def log_lines(self, event: str) -> list[dict[str, Any]]:
        """What the workers logged of this event so far."""
        lines = (self.home / "service.log").read_text().splitlines()
        entries = [json.loads(line) for line in lines if line.startswith("{")]
        return [entry for entry in entries if entry["event"] == event]

    def workers_started(self) -> list[int]:
        """The pids of all workers there have been, oldest first."""
        return [line["worker"] for line in self.log_lines("worker_ready")]

    def rows(self, statement: str, **params: Any) -> list[dict[str, Any]]:
        with psycopg2.connect(self.postgres.url) as connection:
            cursor = connection.cursor(cursor_factory=psycopg2.extras.RealDictCursor)
            cursor.execute(statement, params)
            found = [dict(row) for row in cursor.fetchall()]
        connection.close()
        return found

    def tollgate(self, *arguments: str) -> str:
        """One command of the console script, on this site's servers."""
        done = commands.tollgate(*arguments, environment=self.settings)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def import_flow(self, document: dict[str, Any], folder: Path) -> None:
        file = folder / f"{document['slug']}.json"
        file.write_text(json.dumps({"flows": [document]}))
        self.tollgate("flows", "import", str(file))


def ask(
    url: str,
    data: bytes | None = None,
    headers: dict[str, str] | None = None,
    *,
    timeout_s: float = 40.0,
) -> Answer:
    request = urllib.request.Request(
        url, data, {"Content-Type": "application/json", **(headers or {})}
    )
    try:
        with urllib.request.urlopen(request, timeout=timeout_s) as response:
            return _answer(response.status, response)
    except urllib.error.HTTPError as error:
        with error:
            return _answer(error.code, error)


def _answer(status: int, response: Any) -> Answer:
    content = response.read()
    is_json = "json" in response.headers.get("Content-Type", "")
    return Answer(status, response.headers, json.loads(content) if is_json else content)


@contextmanager
def site(servers: Servers, **settings: str) -> Iterator[Site]:
    with ExitStack() as on_exit:
        postgres = servers.private_postgres()
        on_exit.callback(postgres.stop)
        valkey = servers.private_valkey()
        on_exit.callback(valkey.stop)
        everything = {
            **LIFTED,
            "TOLLGATE_DATABASE__URL": postgres.url,
            "TOLLGATE_DATABASE__POOL_MIN": "2",
            "TOLLGATE_REDIS__URL": valkey.url,
            "TOLLGATE_SERVER__WORKERS": "3",
            "TOLLGATE_JOBS__LEASE_SECONDS": "2",
            "TOLLGATE_JOBS__POLL_INTERVAL": "0.2",
            **settings,
        }
        home = on_exit.enter_context(scratch_directory())
        running = on_exit.enter_context(stack(home, everything))
        yield Site(running, postgres, valkey, everything, home)


@pytest.fixture(scope="module")
def tollgate(servers: Servers) -> Iterator[Site]:
    with site(servers) as made:
        yield made


@pytest.fixture
def make_site(servers: Servers) -> Iterator[Callable[..., Site]]:
    with ExitStack() as on_exit:
        yield lambda **settings: on_exit.enter_context(site(servers, **settings))
