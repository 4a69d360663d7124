"""What ``make bench`` executes; ``--quick`` is the same in seconds, to see that it works."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from scripts.account import scratch
from scripts.bench import contestants, flows, report
from scripts.bench.admission import added_latency, redis_use
from scripts.bench.compare import Comparison, compared
from scripts.bench.contestants import Contestant
from scripts.bench.load import Generator, Load, LoadFailed, OwnGenerator, fastest
from scripts.bench.memory import bucket_size, growth
from scripts.bench.processes import Cores, cores, on
from scripts.bench.report import Row
from scripts.devservers import EmbeddedPostgres, EmbeddedValkey, ServersUnavailable
from scripts.running import ROOT

RESULT = ROOT / "build" / "bench.json"
ADMITTED = "Tollgate, admitted"
#: No line in the log for each request, as the yardstick has none; there is a row with them.
_QUIET = {"TOLLGATE_LOGGING__ACCESS_SAMPLE": "0"}
_KEPT = {
    **contestants.KEPT,
    "TOLLGATE_SERVER__TRUSTED_PROXIES": "127.0.0.1/32",
    **_QUIET,
}


@dataclass(frozen=True, slots=True)
class Scale:
    """How long, how often, how many; ``variants``: our own slower ways too."""

    variants: bool
    pairs: int
    seconds: float
    buckets: int
    clients: tuple[int, ...]
    #: PostgreSQL's backends report what they have done 10 s after it at the latest.
    reported_s: float


FULL = Scale(True, 5, 2.0, 100_000, (50_000, 100_000, 250_000, 500_000, 1_000_000), 10.5)
QUICK = Scale(False, 1, 0.2, 2_000, (1_000, 3_000), 1.0)


@dataclass(frozen=True, slots=True)
class Entrant:
    """Who is compared with the yardstick, whether it refuses, and what we hope for."""

    started: AbstractContextManager[Contestant]
    refused: bool
    goal: float | None = None


class Bench:
    """Everything in one run; ``rows`` and ``record`` fill as it goes on."""

    def __init__(self, home: Path, scale: Scale, cores: Cores, plain: Generator) -> None:
        self._home = home
        self._scale = scale
        self._cores = cores
        self._plain = plain
        self._own = OwnGenerator("wrk can not do this")
        self.rows: list[Row] = []
        self.record: dict[str, Any] = {}

    def run(self) -> None:
        with ExitStack() as stack:
            valkey = stack.enter_context(EmbeddedValkey(self._home / "valkey"))
            postgres = stack.enter_context(EmbeddedPostgres(self._home / "postgres", durable=False))
            self._redis = f"redis://127.0.0.1:{valkey.port}"
            self._settings = {
                "TOLLGATE_DATABASE__URL": postgres.url,
                "TOLLGATE_DATABASE__POOL_MIN": "2",
            }
            self.facts = report.machine(self._cores, valkey.url, self._plain)
            self._speed()
            self._without_cache()
            self._memory()

    def _speed(self) -> None:
        self.record["comparisons"] = []
        with contestants.bare(self._cores) as yardstick:
            for entrant in self._entrants():
                with entrant.started as other:
                    _say(f"{other.name} ...")
                    found = compared(
                        yardstick, other, self._plain, pairs=self._scale.pairs,
                        seconds=self._scale.seconds, refused=entrant.refused,
                    )  # fmt: skip
                    self._compared(found, entrant.goal)
                    if other.name == ADMITTED:
                        self._admission(other)
                        self._flows(other)

    def _entrants(self) -> Iterator[Entrant]:
        """One by one: what waits for its turn would disturb whose turn it is."""
        lifted = contestants.LIFTED
        yield Entrant(self._tollgate(ADMITTED, 0, {**_QUIET, **lifted}), refused=False, goal=0.8)
        yield Entrant(self._tollgate("Tollgate, denied", 1, _QUIET), refused=True, goal=0.9)
        if self._scale.variants:
            logging = self._tollgate(f"{ADMITTED}, a line in the log for each request", 2, lifted)
            yield Entrant(logging, refused=False)
            plain = {**_QUIET, "TOLLGATE_SERVER__FAST_ANSWERS": "false"}
            plainly = self._tollgate(f"{ADMITTED}, plain way", 3, {**plain, **lifted})
            yield Entrant(plainly, refused=False)
            yield Entrant(self._tollgate("Tollgate, denied, plain way", 4, plain), refused=True)
        if not contestants.OTHERS_PYTHON.exists():
            _say("FastAPI and slowapi are not installed (.venv-bench): left out.")
            return
        yield Entrant(self._slowapi(5, "1000000/second", "admitted"), refused=False)
        yield Entrant(self._slowapi(6, "1/day", "denied"), refused=True)

    def _admission(self, admitted: Contestant) -> None:
        _say("Redis commands, added latency ...")
        one = Load(f"{admitted.url}/health", self._scale.seconds)
        use = redis_use(admitted, self._redis, self._plain, one)
        self._note(
            "Redis commands per request, 64 connections of one client",
            f"{use.scripts_per_request:.3f} sent (with those run inside of scripts:"
            f" {use.commands_per_request:.3f})",
            "≤ 0.125",
            met=use.scripts_per_request <= 0.125,
            **asdict(use),
        )
        added = added_latency(
            admitted, self._own, pairs=2 * self._scale.pairs, seconds=self._scale.seconds
        )
        self._note(
            "p99 added by admission, 500 requests/s",
            f"{added.added_ms:.2f} ms",
            "≤ 2 ms",
            met=added.added_ms <= 2.0,
            **asdict(added),
        )

    def _flows(self, admitted: Contestant) -> None:
        _say("Flows ...")
        pairs, seconds = self._scale.pairs, self._scale.seconds
        for found, goal in flows.beside_bare(
            self._cores, admitted, self._plain, pairs=pairs, seconds=seconds
        ):
            self._compared(found, goal)
        use = flows.table_use(
            admitted,
            self._settings["TOLLGATE_DATABASE__URL"],
            self._plain,
            seconds=seconds,
            reported_s=self._scale.reported_s,
        )
        self._note(
            "looks of PostgreSQL into the tables of flows per cached request",
            f"{use.per_request:g} ({use.looks} over {use.requests:,} requests)",
            "0",
            met=use.looks == 0,
            **asdict(use),
        )

    def _without_cache(self) -> None:
        _say("Flows without the cache ...")
        own = {"TOLLGATE_REDIS__URL": f"{self._redis}/8", **self._settings}
        found = flows.with_and_without(
            self._cores, self._home, {**_QUIET, **contestants.LIFTED, **own}, self._plain,
            pairs=self._scale.pairs, seconds=self._scale.seconds,
        )  # fmt: skip
        times = found.middle(lambda pair: pair.other.per_second / pair.yardstick.per_second)
        self._note(
            "flow look-ups with the cache against without it, one worker",
            f"{times:.1f} × as many ({found.middle(lambda pair: pair.other.per_second):,.0f}/s,"
            f" p99 {found.middle(lambda pair: pair.other.p99_ms):.1f} ms; without:"
            f" {found.middle(lambda pair: pair.yardstick.per_second):,.0f}/s,"
            f" p99 {found.middle(lambda pair: pair.yardstick.p99_ms):.1f} ms)",
            "≥ 1.5 ×",
            met=times >= 1.5,
            times=times,
        )
        self.record["comparisons"].append(report.comparison_record(found))

    def _compared(self, found: Comparison, goal: float | None) -> None:
        self.rows.append(report.comparison_row(found, goal))
        self.record["comparisons"].append(report.comparison_record(found))

    def _memory(self) -> None:
        _say("Memory ...")
        with self._tollgate("Tollgate, many clients", 7, _KEPT) as many:
            size = bucket_size(many.url, f"{self._redis}/7", self._own, self._scale.buckets)
            self._note(
                f"memory of a bucket in Redis, {size.keys:,} clients",
                f"{size.bytes_each:.0f} bytes",
                "≤ 130",
                met=size.bytes_each <= 130,
                **asdict(size),
            )
            several = Load(f"{many.url}/health", self._scale.seconds, principals=1_000)
            use = redis_use(many, self._redis, self._own, several)
            self._note(
                "Redis commands per request, 64 connections of 1,000 clients in turn",
                f"{use.scripts_per_request:.3f} sent",
                **asdict(use),
            )
            grown = growth(many, self._own, self._scale.clients)
            steps = ", ".join(f"{value / 1e6:.0f}" for value in grown.resident_bytes)
            self._note(
                f"memory of the worker at {', '.join(f'{n:,}' for n in grown.clients)} clients",
                f"{steps} MB (× {grown.since_first:.2f})",
                "flat: × ≤ 1.10",
                met=grown.since_first <= 1.10,
                **asdict(grown),
            )

    def _note(
        self, name: str, value: str, goal: str = "", *, met: bool | None = None, **figures: Any
    ) -> None:
        self.rows.append(Row(name, value, goal, met))
        self.record[name] = figures

    def _tollgate(
        self, name: str, database: int, settings: Mapping[str, str]
    ) -> AbstractContextManager[Contestant]:
        own = {"TOLLGATE_REDIS__URL": f"{self._redis}/{database}"}
        return contestants.tollgate(
            self._cores, self._home / str(database), {**self._settings, **own, **settings}, name
        )

    def _slowapi(self, database: int, limit: str, what: str) -> AbstractContextManager[Contestant]:
        name = f"FastAPI + slowapi (Redis), {what}"
        return contestants.slowapi(self._cores, f"{self._redis}/{database}", limit, name)


def main() -> int:
    parser = argparse.ArgumentParser(description="Tollgate beside a bare handler and others.")
    parser.add_argument("--quick", action="store_true", help="in seconds: figures mean nothing")
    parser.add_argument("--json", type=Path, default=RESULT, help="where the figures are written")
    options = parser.parse_args()
    home = scratch()
    chosen = cores()
    if options.quick:
        bench = Bench(home, QUICK, chosen, OwnGenerator("a quick run"))
    else:
        bench = Bench(home, FULL, chosen, fastest())
    try:
        with on(chosen.asking):
            bench.run()
    except (LoadFailed, ServersUnavailable) as error:
        print(f"make bench: {error}", file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(home)
    options.json.parent.mkdir(parents=True, exist_ok=True)
    document = {**bench.facts, "quick": options.quick, **bench.record}
    options.json.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n")
    print(report.table(bench.facts, bench.rows))
    return 0


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
