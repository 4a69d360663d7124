"""Every coefficient anew, on this machine: ``python -m scripts.capacity measure``.

Of a busy worker: at full load more requests share a wake-up, a write and a call to Redis than at
half of it, so a request costs less then. That is the cost that decides how many workers it takes.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from scripts.bench.contestants import KEPT
from scripts.bench.load import Generator, OwnGenerator
from scripts.bench.memory import bucket_size
from scripts.capacity import loads
from scripts.capacity.coefficients import (
    Admission,
    Coefficients,
    Contention,
    Idle,
    Kind,
    Limits,
    Measured,
    Reads,
    Route,
    RouteCost,
)
from scripts.capacity.ground import Replica, replica, servers
from scripts.capacity.loads import CONNECTIONS, FLOW
from scripts.capacity.meter import Used, between
from scripts.capacity.queueing import fit
from scripts.load.machine import machine

FLEETS = (1, 2, 3, 6)
_PATHS: Mapping[Route, str] = {"health": "/health", "flow": f"/flows/{FLOW}", "flows": "/flows"}
PRINCIPALS = 1_000
_JOBS = 300


@dataclass(frozen=True, slots=True)
class Scale:
    """``rounds``: so often each load is run; the middle one counts."""

    seconds: float = 2.0
    rounds: int = 3
    fleets: tuple[int, ...] = FLEETS
    jobs: int = _JOBS
    rest_s: float = 6.0
    buckets: int = 100_000


def measured(
    home: Path, plain: Generator, limits: Limits, scale: Scale, say: Callable[[str], None]
) -> Coefficients:
    """Some two minutes; ``limits`` are kept, but for what PostgreSQL commits here."""
    say("Buckets ...")
    bucket_bytes = _bucket_bytes(home / "buckets", scale)
    with servers(home) as there:
        with replica(home / "1", there, 1) as replica_of_one:
            one = OneWorker(replica_of_one, plain, scale)
            say("One worker: at rest, routes ...")
            rest, routes = one.rest(), one.routes()
            say("One worker: many principals, statuses ...")
            admission, statuses = one.admission(bucket_bytes), one.statuses(rest)
            say("One worker: jobs ...")
            free, paid = one.job(rest, paid=False), one.job(rest, paid=True)
        costs = [(1, routes["health"])]
        for workers in scale.fleets[1:]:
            say(f"{workers} workers ...")
            with replica(home / str(workers), there, workers) as several:
                warm(several, plain)
                runs = _runs(scale, several, plain, _PATHS["health"])
                costs.append((workers, loads.middle(runs).us("workers")))
        say("Refusals ...")
        with replica(home / "refusing", there, 1, limits={}) as refusing:
            # What the bucket holds, then nothing.
            loads.plain(refusing, plain, "/health", 1.0, refused=True)
            denied = loads.plain(refusing, plain, "/health", scale.seconds, refused=True)
        # With no worker at work. The most counts: a disk that others use, too, only makes it less.
        told = max(
            loads.told_per_s(there.database_url, statuses.jobs[:16], scale.seconds)
            for _ in range(scale.rounds)
        )
    sigma, kappa = fit(costs)
    routes |= {**statuses.routes, "denied": denied.us("workers")}
    return Coefficients(
        measured=Measured(
            at=datetime.now(UTC).date().isoformat(),
            machine=_where(plain),
            command="python -m scripts.capacity measure",
        ),
        routes={route: RouteCost(worker_us=us) for route, us in routes.items()},
        free_job=free,
        paid_job=paid,
        admission=admission,
        reads=statuses.reads,
        idle=_idle(rest),
        contention=Contention(sigma=sigma, kappa=kappa),
        limits=limits.model_copy(update={"told_per_s": told}),
    )


def _runs(scale: Scale, one: Replica, generator: Generator, path: str) -> list[loads.Measured]:
    return [loads.plain(one, generator, path, scale.seconds) for _ in range(scale.rounds)]


def warm(one: Replica, generator: Generator) -> None:
    """First touches, bursts that may be left."""
    for path in _PATHS.values():
        loads.plain(one, generator, path, 1.0)


@dataclass(frozen=True, slots=True)
class Statuses:
    """What polling costs, and the jobs that were polled, which go on for ever."""

    routes: Mapping[Route, float]
    reads: Reads
    jobs: Sequence[str]


class OneWorker:
    """One worker, measured by kinds of load."""

    def __init__(self, one: Replica, plain: Generator, scale: Scale) -> None:
        self._one, self._plain, self._scale = one, plain, scale

    def rest(self) -> Used:
        """What it does without any client."""
        meter = self._one.meter
        first = meter.read(handed_over=True)
        threading.Event().wait(self._scale.rest_s)
        return between(first, meter.read(handed_over=True))

    def routes(self) -> dict[Route, float]:
        warm(self._one, self._plain)
        return {
            route: loads.middle(_runs(self._scale, self._one, self._plain, path)).us("workers")
            for route, path in _PATHS.items()
        }

    def admission(self, bucket_bytes: float) -> Admission:
        """By the difference to one principal, with the same generator for both."""
        one, own, seconds = self._one, OwnGenerator("names principals"), self._scale.seconds
        few = loads.plain(one, own, "/health", seconds, principals=1)
        many = loads.plain(one, own, "/health", seconds, principals=PRINCIPALS)
        more = (many.used.redis.commands / many.requests) - (few.used.redis.commands / few.requests)
        calls = many.used.redis.commands
        limited, unlimited = (
            min(
                (
                    loads.plain(one, self._plain, path, seconds / 2, connections=1)
                    for _ in range(self._scale.rounds)
                ),
                key=lambda run: 1 / run.per_second,
            )
            for path in ("/health", "/livez")
        )
        return Admission(
            worker_call_us=max(0.0, many.us("workers") - few.us("workers")) / more,
            redis_call_us=many.used.redis.cpu_s / calls * 1e6,
            call_bytes=many.used.redis.bytes / calls,
            round_trip_ms=_longer_ms(limited, unlimited),
            bucket_bytes=bucket_bytes,
            base_bytes=float(few.used.redis.used_memory),
        )

    def statuses(self, rest: Used) -> Statuses:
        one, seconds = self._one, self._scale.seconds
        running = loads.standing(one, 1_000, "running")
        ended = loads.standing(one, 1_000, "completed")
        loads.polls(one, ended, seconds / 2, CONNECTIONS)
        many = loads.polls(one, running, seconds, CONNECTIONS, counted=True)
        final = loads.polls(one, ended, seconds, CONNECTIONS)
        single = loads.polls(one, running, seconds, 1)
        single_final = loads.polls(one, ended, seconds, 1)
        # Two kinds of load, two unknowns: a query for each request, and one for many.
        each_us, shared_us = (
            run.used.less(rest).cpu_s["postgres"] / run.requests * 1e6 for run in (single, many)
        )
        share = min(0.9, many.used.less(rest).queries / many.requests)
        query_us = max(0.0, each_us - shared_us) / (1 - share)
        return Statuses(
            routes={"status": many.us("workers"), "status_final": final.us("workers")},
            reads=Reads(
                query_us=query_us,
                row_us=max(0.0, each_us - query_us),
                round_trip_ms=_longer_ms(single, single_final),
            ),
            jobs=running,
        )

    def job(self, rest: Used, *, paid: bool) -> Kind:
        # A paid one takes longer, and several times as much of everything.
        number = max(1, self._scale.jobs // 2) if paid else self._scale.jobs
        run = loads.jobs(self._one, number, paid=paid)
        used = run.used.less(rest)
        return Kind(
            worker_us=used.cpu_s["workers"] / number * 1e6,
            postgres_us=used.cpu_s["postgres"] / number * 1e6,
            queries=used.queries / number,
            commits=used.commits / number,
            told=run.told / number,
            wal_bytes=used.wal_bytes / number,
            redis_calls=used.redis.commands / number,
            payment_calls=used.payment_calls / number if paid else 0.0,
        )


def _bucket_bytes(home: Path, scale: Scale) -> float:
    """On servers of their own, as these buckets stay."""
    own = OwnGenerator("names principals")
    with servers(home) as there, replica(home / "1", there, 1, limits=KEPT) as one:
        return bucket_size(one.service.url, there.redis_url, own, scale.buckets).bytes_each


def _idle(rest: Used) -> Idle:
    return Idle(
        worker_us=rest.cpu_s["workers"] / rest.seconds * 1e6,
        postgres_us=rest.cpu_s["postgres"] / rest.seconds * 1e6,
        queries=rest.queries / rest.seconds,
        redis_calls=rest.redis.commands / rest.seconds,
    )


def _longer_ms(slow: loads.Measured, quick: loads.Measured) -> float:
    """What one client that asks again and again waits more for the one than for the other."""
    return max(0.05, 1000 / slow.per_second - 1000 / quick.per_second)


def _where(generator: Generator) -> str:
    here = machine()
    return (
        f"{here.cores} cores ({here.cpu}), {here.system.split('-')[0]}, Python {here.python},"
        f" aiohttp {here.packages['aiohttp']}, load from {generator.name}"
    )
