"""The tables of docs/scaling.md that follow from the coefficients, in Markdown."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from scripts.capacity.coefficients import Coefficients
from scripts.capacity.model import plan
from scripts.capacity.models import Demand

EXAMPLES: Final = (
    Demand(rate=1_000, principals=1_000, jobs=1),
    Demand(rate=10_000, principals=10_000, jobs=10),
    Demand(rate=100_000, principals=100_000, jobs=20),
    Demand(rate=1_000_000, principals=1_000_000, jobs=50),
)


def page(cost: Coefficients) -> str:
    return "\n".join([*_coefficients(cost), "", *_examples(cost)])


def _coefficients(cost: Coefficients) -> Iterator[str]:
    measured = cost.measured
    yield f"{measured.at}, {measured.machine}:"
    yield ""
    yield "| | a worker's CPU | PostgreSQL's CPU | queries | more |"
    yield "|---|---|---|---|---|"
    for route, one in cost.routes.items():
        yield f"| `{route}` | {one.worker_us:.0f} µs | | | |"
    call, reads, idle = cost.admission, cost.reads, cost.idle
    yield (
        f"| a call to Redis | {call.worker_call_us:.0f} µs | | |"
        f" {call.redis_call_us:.1f} µs of Redis, {call.call_bytes:.0f} bytes,"
        f" {call.round_trip_ms:.2f} ms |"
    )
    yield (
        f"| a read of statuses | | {reads.query_us:.0f} µs, and {reads.row_us:.0f} µs for each |"
        f" 1 | {reads.round_trip_ms:.1f} ms |"
    )
    for name, job in (("a free job", cost.free_job), ("a paid job", cost.paid_job)):
        yield (
            f"| {name} | {job.worker_us / 1000:.1f} ms | {job.postgres_us / 1000:.1f} ms |"
            f" {job.queries:.1f} | {job.commits:.1f} commits, {job.told:.0f} told,"
            f" {job.wal_bytes / 1000:.1f} kB of WAL, {job.redis_calls:.1f} calls to Redis,"
            f" {job.payment_calls:.1f} to the payment service |"
        )
    yield (
        f"| a worker without clients, a second | {idle.worker_us / 1000:.1f} ms |"
        f" {idle.postgres_us / 1000:.1f} ms | {idle.queries:.1f} | {idle.redis_calls:.1f} calls to"
        " Redis |"
    )
    yield ""
    yield (
        f"σ = {cost.contention.sigma:.3f}, κ = {cost.contention.kappa:.4f};"
        f" {cost.limits.told_per_s:,.0f} commits that notify a second."
    )


def _examples(cost: Coefficients) -> Iterator[str]:
    yield (
        "| requests/s | principals, jobs/s | workers (cores used) | p99 | Redis shards |"
        " PostgreSQL | payment calls/s | does not hold as it is |"
    )
    yield "|---|---|---|---|---|---|---|---|"
    for demand in EXAMPLES:
        found = plan(demand, cost)
        load = found.load
        broken = [one for one in found.bottlenecks if not one.holds]
        needs = "; ".join(f"{one.resource} ({one.used:.1f} ×): {one.then}" for one in broken)
        yield (
            f"| {demand.rate:,.0f} | {demand.principals:,}, {demand.jobs:g} |"
            f" {found.workers} ({load.worker_cores:.1f}) in {found.replicas} replicas |"
            f" {found.p99_ms:.1f} ms | {found.redis_shards}: {load.redis_calls:,.0f} calls/s,"
            f" {load.redis_mib:,.0f} MiB | {load.queries:,.0f} queries/s,"
            f" {load.commits:,.0f} commits/s, {load.postgres_cores:.1f} cores,"
            f" {found.connections:,} connections |"
            f" {load.payment_calls:,.0f} |"
            f" {needs or 'nothing; then ' + found.first_fixed.resource} |"
        )
