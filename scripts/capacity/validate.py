"""What the model says of one replica with 1, 2, 3 and 6 workers here, beside what it does."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from scripts.bench.load import Generator, OwnGenerator
from scripts.capacity import loads
from scripts.capacity.coefficients import Coefficients, Route
from scripts.capacity.ground import replica, servers
from scripts.capacity.measure import FLEETS, warm
from scripts.capacity.model import p99_ms
from scripts.capacity.queueing import Service, slowdown

_ROUTES: Final[tuple[tuple[Route, str], ...]] = (
    ("health", "/health"),
    ("flow", f"/flows/{loads.FLOW}"),
)
_NAMES: Final[Mapping[Route, str]] = {"health": "`/health`", "flow": "`/flows/{flow}`"}
#: As far as our own generator keeps up.
RATES: Final = (100.0, 1_000.0, 3_000.0)
#: Of one worker's throughput, that two reach; where cores are free for them.
GOAL: Final = 1.7


@dataclass(frozen=True, slots=True)
class Calm:
    """One worker at a fixed rate, below what it can do."""

    rate: float
    us: float
    calls: float
    predicted_p99_ms: float
    p99_ms: float


@dataclass(frozen=True, slots=True)
class Row:
    """One load on so many workers; CPU in µs a request."""

    route: Route
    workers: int
    predicted_us: float
    measured_us: float
    #: Of everybody else on this machine: generator, Redis, PostgreSQL.
    others_us: float
    #: That could be had here meanwhile: fewer than there are where others work too.
    cores: float
    predicted_per_s: float
    measured_per_s: float
    p99_ms: float

    @property
    def error(self) -> float:
        return self.predicted_per_s / self.measured_per_s - 1


def per_second(workers: int, cores: float, worker_us: float, others_us: float) -> float:
    """The least that any resource allows: each worker has one core at most, and all share them."""
    return min(workers / worker_us, cores / (worker_us + others_us)) * 1e6


def validated(
    home: Path,
    generator: Generator,
    cost: Coefficients,
    *,
    seconds: float,
    rounds: int,
    fleets: Sequence[int] = FLEETS,
    say: Callable[[str], None],
) -> list[Row]:
    """All is foretold but two things: what others cost, which is taken from one worker's run, and
    how much of the machine there was to be had.
    """
    found: list[Row] = []
    others: dict[Route, float] = {}
    with servers(home) as there:
        for workers in fleets:
            say(f"{workers} workers ...")
            with replica(home / str(workers), there, workers) as one:
                warm(one, generator)
                for route, path in _ROUTES:
                    runs = [loads.plain(one, generator, path, seconds) for _ in range(rounds)]
                    run = loads.middle(runs)
                    others.setdefault(route, _others_us(run))
                    predicted_us = cost.routes[route].worker_us * slowdown(
                        workers, cost.contention.sigma, cost.contention.kappa
                    )
                    found.append(
                        Row(
                            route=route,
                            workers=workers,
                            predicted_us=predicted_us,
                            measured_us=run.us("workers"),
                            others_us=_others_us(run),
                            cores=run.used.cores,
                            predicted_per_s=per_second(
                                workers, run.used.cores, predicted_us, others[route]
                            ),
                            measured_per_s=run.per_second,
                            p99_ms=run.p99_ms,
                        )
                    )
    return found


def calm(
    home: Path, cost: Coefficients, *, seconds: float, rates: Sequence[float] = RATES
) -> list[Calm]:
    """What a request costs where there is less to do: each wakes the worker, Redis and itself."""
    own = OwnGenerator("keeps a rate")
    found = []
    with servers(home) as there, replica(home / "calm", there, 1) as one:
        warm(one, own)
        for rate in rates:
            run = loads.plain(one, own, "/health", seconds, per_second=rate)
            us = run.us("workers")
            foretold_ms = p99_ms(Service.of([(1.0, us / 1e6)]), rate * us / 1e6, cost)
            calls = run.used.redis.commands / run.requests
            found.append(Calm(rate, us, calls, foretold_ms, run.p99_ms))
    return found


def calm_table(rows: Sequence[Calm]) -> str:
    """Markdown, for docs/scaling.md."""
    return "\n".join(
        [
            "| `/health`, one worker | CPU a request | of its core | Redis calls a request |"
            " p99: foretold | measured |",
            "|---|---|---|---|---|---|",
            *(
                f"| {row.rate:,.0f}/s | {row.us:.0f} µs | {row.rate * row.us / 1e6:.0%} |"
                f" {row.calls:.2f} | {row.predicted_p99_ms:.1f} ms | {row.p99_ms:.1f} ms |"
                for row in rows
            ),
        ]
    )


def _others_us(run: loads.Measured) -> float:
    shared = sum(used for part, used in run.used.cpu_s.items() if part != "workers")
    return (shared + run.used.generator_s) / run.requests * 1e6


def table(rows: Sequence[Row]) -> str:
    """Markdown, for docs/scaling.md."""
    lines = [
        "| route | workers | CPU a request: foretold | measured | cores to be had | requests/s:"
        " foretold | measured | error | p99 |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {_NAMES[row.route]} | {row.workers} | {row.predicted_us:.0f} µs |"
        f" {row.measured_us:.0f} µs | {row.cores:.2f} | {row.predicted_per_s:,.0f} |"
        f" {row.measured_per_s:,.0f} | {row.error:+.0%} | {row.p99_ms:.0f} ms |"
        for row in rows
    ]
    routes = dict.fromkeys(row.route for row in rows)
    lines += ["", *(_growth([row for row in rows if row.route == route]) for route in routes)]
    return "\n".join(lines)


def _growth(rows: Sequence[Row]) -> str:
    """Does a request cost more with more workers, and do two do the work of two?"""
    one, *more = rows
    costs = ", ".join(f"{row.measured_us / one.measured_us:.2f} at {row.workers}" for row in more)
    two = next((row for row in more if row.workers == 2), more[0])
    by_cpu = two.workers * one.measured_us / two.measured_us
    return (
        f"{_NAMES[one.route]}: a request's CPU against one worker's: {costs}. Two workers by CPU:"
        f" {by_cpu:.2f} x one (goal {GOAL}); by throughput, the generator on the same cores:"
        f" {two.measured_per_s / one.measured_per_s:.2f} x."
    )
