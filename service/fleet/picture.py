"""Many reports as one picture: what can be added is added, and latencies become quantiles."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from service.fleet.models import BOUNDS_S, Denied, Numbers, Picture, Seen, Use

#: Shown of those who are refused.
MOST_DENIED = 20


def picture_of(seen: Sequence[Seen], *, whole: bool, unreadable: int = 0) -> Picture:
    """The picture; workers by replica and age, so that they keep their places."""
    reports = [s.report for s in seen]
    modes = Counter(mode for report in reports for mode in report.modes)
    return Picture(
        workers=tuple(sorted(seen, key=_place)),
        numbers=total(report.numbers for report in reports),
        denied=most_denied(denied for report in reports for denied in report.denied),
        modes=dict(sorted(modes.items())),
        whole=whole,
        unreadable=unreadable,
    )


def total(numbers: Iterable[Numbers]) -> Numbers:
    """All of them together."""
    every = list(numbers)
    return Numbers(
        traffic=_tables(n.traffic for n in every),
        seconds=_buckets(n.seconds for n in every),
        decisions=_tables(n.decisions for n in every),
        cache=_sums(n.cache for n in every),
        payments=_sums(n.payments for n in every),
        # Each who tells it tells the same, at a different moment.
        jobs=_largest(n.jobs for n in every),
        in_flight=sum(n.in_flight for n in every),
        waiting_clients=_uses(n.waiting_clients for n in every),
        pool=_uses(n.pool for n in every),
        bulkhead=_uses(n.bulkhead for n in every),
        runs=_uses(n.runs for n in every),
    )


def quantile(buckets: Sequence[float], share: float) -> float | None:
    """The time in s below which this share of them stayed, by interpolation; None: of nothing.

    What took longer than the last bound is told as that bound.
    """
    everything = sum(buckets)
    if everything <= 0:
        return None
    wanted, below = share * everything, 0.0
    for index, number in enumerate(buckets[: len(BOUNDS_S)]):
        if number > 0 and below + number >= wanted:
            lower = BOUNDS_S[index - 1] if index else 0.0
            return lower + (BOUNDS_S[index] - lower) * (wanted - below) / number
        below += number
    return BOUNDS_S[-1]


def most_denied(denied: Iterable[Denied]) -> tuple[Denied, ...]:
    """The same principal of several workers is one."""
    rates: defaultdict[tuple[str, str], float] = defaultdict(float)
    for one in denied:
        rates[one.kind, one.hash] += one.per_minute
    largest = sorted(rates.items(), key=lambda item: (-item[1], item[0]))[:MOST_DENIED]
    return tuple(Denied(kind, hashed, round(rate, 1)) for (kind, hashed), rate in largest)


def _place(seen: Seen) -> tuple[str, float, int]:
    identity = seen.report.identity
    return identity.replica, identity.started_s, identity.pid


def _sums(tables: Iterable[Mapping[str, float]]) -> dict[str, float]:
    sums: defaultdict[str, float] = defaultdict(float)
    for table in tables:
        for name, number in table.items():
            sums[name] += number
    return {name: round(number, 3) for name, number in sums.items()}


def _tables(tables: Iterable[Mapping[str, Mapping[str, float]]]) -> dict[str, dict[str, float]]:
    rows: defaultdict[str, list[Mapping[str, float]]] = defaultdict(list)
    for table in tables:
        for name, row in table.items():
            rows[name].append(row)
    return {name: _sums(same) for name, same in sorted(rows.items())}


def _buckets(tables: Iterable[Mapping[str, Sequence[float]]]) -> dict[str, tuple[float, ...]]:
    length = len(BOUNDS_S) + 1
    sums: defaultdict[str, list[float]] = defaultdict(lambda: [0.0] * length)
    for table in tables:
        for name, buckets in table.items():
            if len(buckets) == length:  # another version may have others
                sums[name] = [a + b for a, b in zip(sums[name], buckets, strict=True)]
    return {name: tuple(round(n, 3) for n in same) for name, same in sorted(sums.items())}


def _largest(tables: Iterable[Mapping[str, int]]) -> dict[str, int]:
    largest: dict[str, int] = {}
    for table in tables:
        for name, number in table.items():
            largest[name] = max(largest.get(name, 0), number)
    return largest


def _uses(uses: Iterable[Use]) -> Use:
    every = list(uses)
    return Use(
        sum(use.used for use in every),
        sum(use.size for use in every),
        sum(use.waiting for use in every),
    )
