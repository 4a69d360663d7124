"""From what is demanded to what it takes; pure. docs/scaling.md tells the formulas."""

from __future__ import annotations

import math
from typing import Final

from scripts.capacity.coefficients import DENIED, Coefficients
from scripts.capacity.models import Bottleneck, Demand, Load, Plan
from scripts.capacity.queueing import Service, distinct, slowdown, time_s

_US: Final = 1e-6
_MIB: Final = 2**20
#: Connections of people, migrations and tests beside the workers' own.
SPARE_CONNECTIONS: Final = 30
#: As docs/database.md configures PgBouncer, to PostgreSQL.
POOLED_CONNECTIONS: Final = 40
#: What goes past PgBouncer is one connection of each worker, which waits for news.
_MORE_LISTENERS: Final = "a higher max_connections: most of them only listen"


def load_of(demand: Demand, cost: Coefficients, workers: int) -> Load:
    """What the demand does where so many workers share it evenly."""
    routes, per_s = cost.routes, demand.by_route
    charged = sum(rate for route, rate in per_s.items() if route != DENIED)
    decided = calls(charged / workers, demand.principals, cost) * workers
    polls = per_s.get("status", 0.0)
    reads = (
        _trips(polls / workers, _stretched(cost.reads.round_trip_ms, cost.limits.worker_share))
        * workers
    )
    paid, free = demand.jobs * demand.paid, demand.jobs * (1 - demand.paid)

    def jobs(what: str) -> float:
        return float(paid * getattr(cost.paid_job, what) + free * getattr(cost.free_job, what))

    worker_us = (
        sum(rate * routes[route].worker_us for route, rate in per_s.items())
        + decided * cost.admission.worker_call_us
        + jobs("worker_us")
    ) * contention(cost) + workers * cost.idle.worker_us
    redis_calls = decided + jobs("redis_calls") + workers * cost.idle.redis_calls
    postgres_us = (
        reads * cost.reads.query_us
        + polls * cost.reads.row_us
        + jobs("postgres_us")
        + workers * cost.idle.postgres_us
    )
    return Load(
        worker_cores=worker_us * _US,
        nginx_cores=demand.rate * cost.limits.nginx_us * _US,
        redis_calls=redis_calls,
        redis_cores=redis_calls * cost.admission.redis_call_us * _US,
        redis_mib=(
            cost.admission.base_bytes
            + demand.principals * cost.admission.bucket_bytes * buckets(demand)
            + demand.flows * cost.limits.flow_bytes
        )
        / _MIB,
        redis_mbit=redis_calls * cost.admission.call_bytes * 8 / 1e6,
        queries=reads + jobs("queries") + workers * cost.idle.queries,
        postgres_cores=postgres_us * _US,
        commits=jobs("commits"),
        told=jobs("told"),
        wal_mib=jobs("wal_bytes") / _MIB,
        runs=demand.jobs * demand.run_s,
        payment_calls=jobs("payment_calls"),
    )


def contention(cost: Coefficients) -> float:
    """Workers of one machine only: what all share, Redis and PostgreSQL, is counted by itself."""
    return slowdown(cost.limits.workers_per_replica, cost.contention.sigma, cost.contention.kappa)


def buckets(demand: Demand) -> int:
    """Of one principal: one for each class of routes it uses."""
    return sum(share > 0 for share in demand.mix.values()) + (demand.jobs > 0)


def calls(rate: float, principals: int, cost: Coefficients) -> float:
    """Calls a second of one worker to Redis.

    What arrives during a round trip goes together, and alike requests of it are one call.
    """
    trips = _trips(rate, _stretched(cost.admission.round_trip_ms, cost.limits.worker_share))
    return trips * distinct(rate / trips, principals) if trips else 0.0


def _stretched(round_trip_ms: float, used: float) -> float:
    """Measured where nobody else asks; a worker that is busy comes to the answer later."""
    return round_trip_ms / (1 - used) if used < 1 else math.inf


def _trips(rate: float, round_trip_ms: float) -> float:
    """Round trips a second, where one is under way at a time and none is empty.

    The next one begins with the next arrival: a round trip and a mean gap for each.
    """
    return 1 / (round_trip_ms / 1000 + 1 / rate) if rate > 0 else 0.0


def p99_ms(service: Service, used: float, cost: Coefficients, *, reads: bool = False) -> float:
    """Of a request to a worker whose core is used so far.

    Its turn, and the answer of Redis, whose last batch it may just have missed; with ``reads``
    that of PostgreSQL, too.
    """
    trip_ms = cost.admission.round_trip_ms + (cost.reads.round_trip_ms if reads else 0.0)
    return time_s(service, used) * 1000 + 2 * _stretched(trip_ms, used)


def workers_for(demand: Demand, cost: Coefficients) -> int:
    """The fewest that stay within the share planned with, and have places for all runs."""
    workers = 1
    while True:
        load = load_of(demand, cost, workers)
        needed = max(
            load.worker_cores / cost.limits.worker_share, load.runs / cost.limits.worker_runs
        )
        if needed <= workers:
            return workers
        # More workers put less into each batch, so they cost a little more: look again.
        workers = max(workers + 1, math.floor(needed))


def plan(
    demand: Demand,
    cost: Coefficients,
    *,
    workers: int | None = None,
    shards: int | None = None,
    pooled: bool = False,
) -> Plan:
    """What the demand takes; with ``workers`` or ``shards``: what it does to so many.

    ``pooled``: with PgBouncer, which leaves each worker the one connection that listens.
    """
    limits = cost.limits
    workers = workers or workers_for(demand, cost)
    load = load_of(demand, cost, workers)
    shards = shards or max(
        1,
        math.ceil(load.redis_cores / limits.redis_share),
        math.ceil(load.redis_mib / 1024 / limits.redis_shard_gib),
        math.ceil(load.redis_mbit / limits.redis_shard_mbit),
    )
    per_s = demand.by_route
    service = Service.of(
        [(rate, cost.routes[route].worker_us * _US) for route, rate in per_s.items() if rate]
    )
    used = load.worker_cores / workers
    nginx = math.ceil(load.nginx_cores / limits.worker_share / limits.nginx_cores)
    replicas = math.ceil(workers / limits.workers_per_replica) + limits.spare_replicas
    processes = replicas * limits.workers_per_replica
    held = POOLED_CONNECTIONS + processes if pooled else processes * limits.worker_connections
    connections = held + SPARE_CONNECTIONS
    found = _bottlenecks(
        load, cost, workers=workers, shards=shards, nginx=nginx, connections=connections,
        pooled=pooled,
    )  # fmt: skip
    return Plan(
        demand=demand,
        workers=workers,
        replicas=replicas,
        redis_shards=shards,
        nginx=nginx,
        connections=connections,
        worker_mib=processes * limits.worker_mib,
        p99_ms=p99_ms(service, used, cost, reads=per_s.get("status", 0.0) > 0),
        load=load,
        bottlenecks=tuple(sorted(found, key=lambda one: one.used, reverse=True)),
    )


def _bottlenecks(
    load: Load,
    cost: Coefficients,
    *,
    workers: int,
    shards: int,
    nginx: int,
    connections: int,
    pooled: bool,
) -> list[Bottleneck]:
    limits = cost.limits
    return [
        Bottleneck(
            "workers", load.worker_cores, workers * limits.worker_share, "cores",
            "more replicas", added=True,
        ),
        Bottleneck(
            "places for runs", load.runs, workers * limits.worker_runs, "runs",
            "more workers; a higher jobs.concurrency for runners that wait", added=True,
        ),
        Bottleneck(
            "nginx", load.nginx_cores, nginx * limits.nginx_cores * limits.worker_share, "cores",
            "one more, by DNS or anycast", added=True,
        ),
        Bottleneck(
            "Redis, processor", load.redis_cores, shards * limits.redis_share, "cores",
            "one more shard of a cluster", added=True,
        ),
        Bottleneck(
            "Redis, memory", load.redis_mib / 1024, shards * limits.redis_shard_gib, "GiB",
            "one more shard; higher rates, as full buckets are forgotten", added=True,
        ),
        Bottleneck(
            "Redis, network", load.redis_mbit, shards * limits.redis_shard_mbit, "Mbit/s",
            "one more shard", added=True,
        ),
        Bottleneck(
            "PostgreSQL, processor", load.postgres_cores,
            limits.postgres_cores * limits.postgres_share, "cores",
            "wait= in place of polling; a larger machine",
        ),
        Bottleneck(
            "PostgreSQL, commits that notify", load.told, limits.told_per_s, "/s",
            "faster disks; a shop of its own for some flows",
        ),
        Bottleneck(
            "PostgreSQL, WAL", load.wal_mib, limits.wal_mib_per_s, "MiB/s", "faster disks",
        ),
        Bottleneck(
            "PostgreSQL, connections", connections, limits.postgres_connections, "",
            _MORE_LISTENERS if pooled else "PgBouncer",
        ),
        Bottleneck(
            "payment service", load.payment_calls, limits.payment_calls_per_s, "calls/s",
            "more of it from its operator; several, by flows",
        ),
    ]  # fmt: skip
