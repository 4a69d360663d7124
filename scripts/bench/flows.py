"""Look-ups of flows: beside the bare handler, with the cache and without, and what PostgreSQL says.

That a request from the cache costs no query is counted by PostgreSQL itself: by how often it
looked into the tables of flows while the load ran.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import psycopg2

from scripts.bench.compare import Comparison, compared
from scripts.bench.contestants import Contestant, answering, bare, document_of
from scripts.bench.load import Generator, Load
from scripts.bench.processes import Cores, move
from scripts.kept import Kept, Order
from scripts.loopback import LOOPBACK, free_port
from scripts.running import ROOT

#: One of the demonstration flows, which every contestant has imported.
ONE = "/flows/text-summary"
PAGE = "/flows"
GOAL = 0.7
_LOOKS = """
SELECT pg_stat_clear_snapshot(), sum(seq_scan + coalesce(idx_scan, 0))
  FROM pg_stat_user_tables WHERE relname IN ('flows', 'flow_aliases')
"""


@dataclass(frozen=True, slots=True)
class TableUse:
    """How often PostgreSQL looked into the tables of flows over so many requests."""

    requests: int
    looks: int

    @property
    def per_request(self) -> float:
        return self.looks / self.requests


def beside_bare(
    cores: Cores, admitted: Contestant, generator: Generator, *, pairs: int, seconds: float
) -> Iterator[tuple[Comparison, float | None]]:
    """One flow, and a page of the list, each beside a bare handler that answers the same document.

    And the flow once more, without a goal, beside the one that answers a line: what a longer answer
    costs is in that.
    """
    for name, path, goal in (
        ("one flow from the cache", ONE, GOAL),
        ("a page of flows", PAGE, GOAL),
        ("one flow, beside a bare handler's one line", ONE, None),
    ):
        asked = replace(admitted, name=f"Tollgate, {name}", path=path)
        with bare(cores, document=document_of(asked) if goal else "") as yardstick:
            found = compared(
                yardstick, asked, generator, pairs=pairs, seconds=seconds, refused=False
            )  # fmt: skip
            yield found, goal


def table_use(
    contestant: Contestant,
    database_url: str,
    generator: Generator,
    *,
    seconds: float,
    reported_s: float,
) -> TableUse:
    """Over one load of one flow, in as many requests as go; counts come ``reported_s`` late."""

    def looks() -> int:
        time.sleep(reported_s)  # until the server has counted them
        with connection.cursor() as cursor:
            cursor.execute(_LOOKS)
            [[_, looks]] = cursor.fetchall()
        return int(looks)

    with contextlib.closing(psycopg2.connect(database_url)) as connection:
        connection.autocommit = True
        before = looks()
        outcome = generator.offer(Load(f"{contestant.url}{ONE}", seconds))
        return TableUse(outcome.requests, looks() - before)


def with_and_without(
    cores: Cores,
    home: Path,
    settings: Mapping[str, str],
    generator: Generator,
    *,
    pairs: int,
    seconds: float,
) -> Comparison:
    """The same service with its cache, and without any (the yardstick of the pair)."""
    with (
        _lookups(cores, home, settings, "uncached") as without,
        _lookups(cores, home, settings, "cached") as with_cache,
    ):
        return compared(
            without, with_cache, generator, pairs=pairs, seconds=seconds, refused=False
        )  # fmt: skip


@contextlib.contextmanager
def _lookups(
    cores: Cores, home: Path, settings: Mapping[str, str], how: str
) -> Iterator[Contestant]:
    python, port = str(ROOT / ".venv" / "bin" / "python"), free_port()
    # No payment is made, and nobody answers at this address.
    payment = {
        "TOLLGATE_PAYMENT__URL": f"http://{LOOPBACK}:{free_port()}",
        "TOLLGATE_PAYMENT__API_KEY": "unused" * 4,
    }
    order = Order(
        command=(python, "-m", "scripts.bench.lookups", str(port), how),
        directory=ROOT,
        environment={**os.environ, **settings, **payment},
        stop_signals=(signal.SIGTERM,),
        log=home / f"{how}.log",
    )
    with answering(Kept(order), f"flow look-ups, {how}", port) as one:
        move(one.pid, cores.serving)
        yield replace(one, path=ONE)
