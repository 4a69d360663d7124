"""What ``make load`` measured of a fleet behind nginx at full load: nginx's share, and a check.

Only runs that asked as fast as answers came: with less to do every request costs more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

from scripts.capacity.coefficients import DENIED, Coefficients, Route
from scripts.capacity.queueing import slowdown
from scripts.load.record import Record

_ROUTES: Final[dict[str, Route]] = {
    "GET /health": "health",
    "GET /flows": "flows",
    "GET /flows/{flow}": "flow",
    "GET /{flow}/status": "status",
}


@dataclass(frozen=True, slots=True)
class Seen:
    """One run: CPU in µs a request."""

    scenario: str
    requests: int
    worker_us: float
    foretold_us: float
    nginx_us: float


def seen(records: Sequence[Record], cost: Coefficients) -> list[Seen]:
    """Of those records that can say it."""
    found = (_seen(record, cost) for record in records)
    return [one for one in found if one is not None]


def with_nginx(cost: Coefficients, found: Sequence[Seen]) -> Coefficients:
    """The same, nginx at what it took in the middle of these runs."""
    nginx_us = median(one.nginx_us for one in found)
    return cost.model_copy(
        update={"limits": cost.limits.model_copy(update={"nginx_us": round(nginx_us, 1)})}
    )


def _seen(record: Record, cost: Coefficients) -> Seen | None:
    costs, asked = record.costs, record.requests
    if record.offered.rate is not None or costs is None or not costs.cpu_us.get("nginx"):
        return None
    if any(one.route not in _ROUTES for one in asked):
        return None
    foretold_us, answers = 0.0, 0
    for one in asked:
        denied = sum(number for kind, number in one.kinds.items() if kind != "ok")
        admitted = one.kinds.get("ok", 0)
        foretold_us += admitted * cost.routes[_ROUTES[one.route]].worker_us
        foretold_us += denied * cost.routes[DENIED].worker_us
        answers += admitted + denied
    workers = record.fleet.replicas * record.fleet.workers if record.fleet else 1
    shared = slowdown(workers, cost.contention.sigma, cost.contention.kappa)
    return Seen(
        scenario=record.scenario,
        requests=answers,
        worker_us=costs.cpu_us["workers"],
        foretold_us=foretold_us / answers * shared,
        nginx_us=costs.cpu_us["nginx"],
    )


def table(found: Sequence[Seen]) -> str:
    lines = [
        "| run | requests | CPU of workers a request: foretold | measured | of nginx |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {one.scenario} | {one.requests:,} | {one.foretold_us:.0f} µs | {one.worker_us:.0f} µs |"
        f" {one.nginx_us:.0f} µs |"
        for one in found
    ]
    return "\n".join(lines)
