"""A plan as a table for people, and as a value for programs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from scripts.capacity.models import Plan


def table(plan: Plan) -> str:
    return "\n".join(_lines(plan))


def document(plan: Plan) -> dict[str, Any]:
    found = asdict(plan)
    for one, told in zip(plan.bottlenecks, found["bottlenecks"], strict=True):
        told["used"] = one.used
    return {**found, "holds": plan.holds}


def _lines(plan: Plan) -> Iterator[str]:
    demand, load = plan.demand, plan.load
    yield (
        f"{demand.rate:,.0f} requests/s ({demand.denied:.0%} denied) of {demand.principals:,}"
        f" principals; {demand.jobs:,g} jobs/s ({demand.paid:.0%} paid); {demand.flows:,} flows"
    )
    yield ""
    needs = (
        ("workers", plan.workers, f"using {load.worker_cores:,.1f} cores"),
        ("replicas", plan.replicas, f"spare ones too; {plan.worker_mib / 1024:,.1f} GiB of memory"),
        ("p99 of a request, ms", plan.p99_ms, "waiting and work, without the network"),
        ("nginx", plan.nginx, f"using {load.nginx_cores:,.1f} cores"),
        ("Redis shards", plan.redis_shards, f"{load.redis_mib:,.0f} MiB in all"),
        ("  calls/s", load.redis_calls, f"{load.redis_mbit:,.0f} Mbit/s"),
        ("PostgreSQL queries/s", load.queries, f"using {load.postgres_cores:,.1f} cores"),
        ("  commits/s", load.commits, f"writes to disk, at most; {load.told:,.0f} notify"),
        ("  WAL, MiB/s", load.wal_mib, ""),
        ("  connections", plan.connections, "spare workers' and 30 others, too"),
        ("payment service calls/s", load.payment_calls, ""),
    )
    for name, value, more in needs:
        yield f"{name:<26}{_number(value):>10}  {more}".rstrip()
    yield ""
    yield "  what breaks first                    load     limit           used   then"
    for one in plan.bottlenecks:
        mark = "!" if not one.holds else "+" if one.added else " "
        yield (
            f"{mark} {one.resource:<32}{_number(one.load):>9}{_number(one.limit):>10} {one.unit:<8}"
            f"{one.used:>8.1%}   {one.then}"
        )
    yield ""
    fixed = plan.first_fixed
    if plan.holds:
        yield (
            "It holds. As the load grows, take more of what is marked +; the first that this does"
            f" not mend is {fixed.resource}, at {1 / fixed.used:,.2g} times this load."
            if fixed.used
            else "It holds."
        )
    else:
        broken = "; ".join(one.resource for one in plan.bottlenecks if not one.holds)
        yield f"It does not hold as it is: {broken}. What to do: docs/scaling.md."


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:,.3g}"
