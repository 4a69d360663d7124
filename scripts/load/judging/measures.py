"""What thresholds can be set on: each measure is one number of a record, or absent from it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from scripts.load.judging.percentiles import Unreadable, distribution
from scripts.load.record import Admissions, Kind, Latency, Record, Requests, Sales

Unit = Literal["", "ms", "µs", "/s", "%", "tokens", "bytes"]


@dataclass(frozen=True, slots=True)
class Where:
    """Of what part of a record; None: of all of it."""

    group: str | None = None
    route: str | None = None
    policy: str | None = None
    #: Of the fleet: workers, redis, ...
    part: str | None = None

    def __str__(self) -> str:
        places = (self.route, self.policy, self.part)
        named = ", ".join(place for place in places if place is not None)
        if self.group is None:
            return named
        return f"{named} ({self.group})" if named else self.group


Measuring = Callable[[Record, Where], float | None]


@dataclass(frozen=True, slots=True)
class Measure:
    words: str
    unit: Unit
    of: Measuring
    #: A figure of the generator as much as of the fleet: nothing to judge by when it fell behind.
    speed: bool = False


def requests(record: Record, where: Where) -> list[Requests]:
    return [
        one
        for one in record.requests
        if where.group in (None, one.group) and where.route in (None, one.route)
    ]


def admissions(record: Record, where: Where) -> list[Admissions]:
    return [
        one
        for one in record.admissions
        if where.group in (None, one.group) and where.policy in (None, one.policy)
    ]


def percentile_ms(latencies: Iterable[Latency | None], share: float) -> float | None:
    """Of all together; where a histogram can not be read, the worst of their own figures."""
    there = [one for one in latencies if one is not None and one.count]
    if not there:
        return None
    own = {0.5: "p50", 0.9: "p90", 0.99: "p99", 0.999: "p999", 1.0: "max"}[share]
    if len(there) == 1 or share == 1.0:
        return max(float(getattr(one, own)) for one in there)
    try:
        return distribution(there).at(share)
    except (Unreadable, ValueError):
        return max(float(getattr(one, own)) for one in there)


def kind_count(*kinds: Kind) -> Measuring:
    def of(record: Record, where: Where) -> float | None:
        found = [one for one in requests(record, where) if one.sent]
        # Of requests that were never sent it is not known how they fare.
        return sum(one.kinds.get(kind, 0) for one in found for kind in kinds) if found else None

    return of


def _share(kind: Kind) -> Measuring:
    def of(record: Record, where: Where) -> float | None:
        sent = sum(one.sent for one in requests(record, where))
        count = kind_count(kind)(record, where)
        return 100 * count / sent if sent and count is not None else None

    return of


def _per_second(*kinds: Kind) -> Measuring:
    def of(record: Record, where: Where) -> float | None:
        count = kind_count(*kinds)(record, where)
        return count / record.seconds if record.seconds > 0 and count is not None else None

    return of


def _errors(record: Record, where: Where) -> float | None:
    found = [one for one in requests(record, where) if one.sent]
    return sum(sum(one.errors.values()) for one in found) if found else None


def _goodput_share(record: Record, where: Where) -> float | None:
    due = sum(one.due for one in record.seconds_of if where.group in (None, one.group))
    good = sum(
        one.kinds.get("ok", 0) for one in record.seconds_of if where.group in (None, one.group)
    )
    return 100 * good / due if due else None


def _latency(share: float, *, refusals: bool = False) -> Measuring:
    def of(record: Record, where: Where) -> float | None:
        found = requests(record, where)
        return percentile_ms((o.refusal_latency if refusals else o.latency for o in found), share)

    return of


def _excess(record: Record, where: Where) -> float | None:
    return max((one.worst_excess for one in admissions(record, where)), default=None)


def _fairness(record: Record, where: Where) -> float | None:
    return min((one.fairness for one in admissions(record, where)), default=None)


def _of_sales(of: Callable[[Sales], float | None]) -> Measuring:
    def measured(record: Record, where: Where) -> float | None:
        sales = record.sales
        # No sale was begun: none can have gone wrong, and nothing is shown.
        return None if sales is None or not sales.begun else of(sales)

    return measured


def _cpu(record: Record, where: Where) -> float | None:
    by_part = record.costs.cpu_us if record.costs else {}
    if where.part is not None:
        return by_part.get(where.part)
    return sum(by_part.values()) if by_part else None


def _cost(name: Literal["redis_commands", "redis_bytes", "queries"]) -> Measuring:
    def of(record: Record, where: Where) -> float | None:
        found: float | None = getattr(record.costs, name) if record.costs else None
        return found

    return of


def _events(record: Record, where: Where) -> float | None:
    kinds = [event.kind for event in record.events if where.part in (None, event.kind)]
    return len(kinds) if record.samples else None


def _pool(record: Record, where: Where) -> float | None:
    shares = [100 * one.pool_in_use / one.pool_size for one in record.samples if one.pool_size]
    return max(shares, default=None)


def _generator(record: Record, where: Where) -> float | None:
    return float(record.generator.bottleneck)


def _reference(record: Record, where: Where) -> float | None:
    gaps = [
        abs(one.ours_per_second / one.per_second - 1) * 100
        for one in record.references
        if one.per_second > 0
    ]
    return max(gaps, default=None)


MEASURES: Final[Mapping[str, Measure]] = {
    "failed": Measure("Failed requests", "", kind_count("failed")),
    "failed_share": Measure("Failed requests", "%", _share("failed")),
    "denied": Measure("Denied requests", "", kind_count("denied")),
    "denied_share": Measure("Denied requests", "%", _share("denied")),
    "unavailable": Measure("Requests refused with 503", "", kind_count("unavailable")),
    "unavailable_share": Measure("Requests refused with 503", "%", _share("unavailable")),
    "refused": Measure("Otherwise refused requests", "", kind_count("refused")),
    "unanswered": Measure("Requests without an answer", "", _errors),
    "throughput": Measure(
        "Answers a second",
        "/s",
        _per_second("ok", "denied", "unavailable", "refused"),
        speed=True,
    ),
    "goodput": Measure("Served a second", "/s", _per_second("ok"), speed=True),
    "goodput_share": Measure("Served of what was due", "%", _goodput_share, speed=True),
    "p50_ms": Measure("p50", "ms", _latency(0.5), speed=True),
    "p90_ms": Measure("p90", "ms", _latency(0.9), speed=True),
    "p99_ms": Measure("p99", "ms", _latency(0.99), speed=True),
    "p999_ms": Measure("p99.9", "ms", _latency(0.999), speed=True),
    "max_ms": Measure("Longest latency", "ms", _latency(1.0), speed=True),
    "refusal_p99_ms": Measure("p99 of refusals", "ms", _latency(0.99, refusals=True), speed=True),
    "worst_excess": Measure("Admitted above the bound, worst window", "tokens", _excess),
    "fairness": Measure("Fairness between principals", "", _fairness),
    "lost": Measure("Lost sales", "", _of_sales(lambda sales: sales.lost)),
    "doubled": Measure("Doubled sales", "", _of_sales(lambda sales: sales.doubled)),
    "wrong": Measure(
        "Wrong hashes or times", "", _of_sales(lambda sales: sales.wrong_hashes + sales.wrong_times)
    ),
    "completed_share": Measure(
        # Of all: who was not sold anything, or could not pay, has no result either.
        "Completed of the purchases begun",
        "%",
        _of_sales(lambda sales: 100 * sales.completed / sales.begun),
    ),
    "sale_p99_ms": Measure(
        "p99 of a whole sale",
        "ms",
        _of_sales(lambda sales: percentile_ms([sales.latency], 0.99)),
        speed=True,
    ),
    "cpu_us": Measure("CPU per request", "µs", _cpu),
    "redis_commands": Measure("Redis commands per request", "", _cost("redis_commands")),
    "redis_bytes": Measure("Redis traffic per request", "bytes", _cost("redis_bytes")),
    "queries": Measure("Queries per request", "", _cost("queries")),
    "pool_share": Measure("Most of the database pool in use", "%", _pool),
    "events": Measure("Events", "", _events),
    "reference_gap": Measure("Apart from another generator's throughput", "%", _reference),
    "generator": Measure("The generator held the fleet back", "", _generator),
}
