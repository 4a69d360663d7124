"""What happened over the time of a run, thinned to as many points as a picture can show."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from statistics import median
from typing import Final

from scripts.load.record import KINDS, Kind, Record, Sample, Second
from scripts.load.report.scales import finite

#: Wider than this a point is no longer seen by itself.
_POINTS: Final = 240
_WIDTHS_S: Final = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600)


@dataclass(frozen=True, slots=True)
class Series:
    """One line or band; ``style`` names its colour and dashes in the style sheet."""

    name: str
    style: str
    values: tuple[float | None, ...]


@dataclass(frozen=True, slots=True)
class Timeline:
    """Series over the same moments; each value is of the ``width_s`` seconds from there."""

    length_s: float
    width_s: float
    moments: tuple[float, ...]
    series: tuple[Series, ...]

    @property
    def values(self) -> list[float]:
        return finite(value for one in self.series for value in one.values)


def length_s(record: Record) -> float:
    ends = [record.seconds, *(one.at + 1.0 for one in record.seconds_of)]
    ends += [sample.at for sample in record.samples]
    ends += [event.at for event in record.events]
    return max([*finite(ends), 1.0])


def groups(record: Record) -> list[str]:
    found = [one.group for one in record.requests] + [one.group for one in record.seconds_of]
    return list(dict.fromkeys(found))


def answers(record: Record, *, only: Iterable[Kind] = KINDS, group: str | None = None) -> Timeline:
    """Per second, by kind, as far as there were any; and what was due."""
    within = _bucketed(record, group)
    width = _width(record)

    def rate(kind: Kind) -> tuple[float | None, ...]:
        counts = (sum(one.kinds.get(kind, 0) for one in seconds) for _, seconds in within)
        return tuple(count / width for count in counts)

    series = [Series(kind, f"k-{kind}", rate(kind)) for kind in KINDS if kind in only]
    return _timeline(record, within, [one for one in series if any(one.values)])


def due(record: Record, group: str | None = None) -> Series:
    within, width = _bucketed(record, group), _width(record)
    values = (sum(one.due for one in seconds) / width for _, seconds in within)
    return Series("due", "due", tuple(values))


def named(timeline: Timeline, words: Mapping[str, str]) -> Timeline:
    """The same under names for people."""
    series = (replace(one, name=words.get(one.name, one.name)) for one in timeline.series)
    return replace(timeline, series=tuple(series))


def latencies(record: Record, group: str) -> Timeline:
    """Of a point that holds several seconds: the middle p50, the highest p99 and max."""
    within = _bucketed(record, group)

    def of(
        get: Callable[[Second], float | None], join: Callable[[list[float]], float]
    ) -> tuple[float | None, ...]:
        found = (finite(get(one) for one in seconds) for _, seconds in within)
        return tuple(join(values) if values else None for values in found)

    return _timeline(
        record,
        within,
        [
            Series("longest", "s3", of(lambda one: one.max_ms, max)),
            Series("p99", "s1", of(lambda one: one.p99_ms, max)),
            Series("p50", "s0", of(lambda one: one.p50_ms, median)),
        ],
    )


def levels(record: Record, *of: tuple[str, str, Callable[[Sample], float | None]]) -> Timeline:
    """What samples show at their moment: of a point, the highest."""
    within, width = _sampled(record), _width(record)
    series = [
        Series(
            name, style, tuple(max(finite(map(get, found)), default=None) for _, found in within)
        )
        for name, style, get in of
    ]
    return Timeline(length_s(record), width, tuple(at for at, _ in within), tuple(series))


def rates(record: Record, *of: tuple[str, str, Callable[[Sample], float]]) -> Timeline:
    """By the second, of what samples count since the run began; nothing where a count fell."""
    within, width = _sampled(record), _width(record)
    last = [found[-1] for _, found in within]
    steps = list(pairwise(last))
    series = [
        Series(name, style, tuple(_rate(before, after, get) for before, after in steps))
        for name, style, get in of
    ]
    moments = tuple(before.at for before, _ in steps)
    return Timeline(length_s(record), width, moments, tuple(series))


def _rate(before: Sample, after: Sample, get: Callable[[Sample], float]) -> float | None:
    passed, grown = after.at - before.at, get(after) - get(before)
    if not passed > 0 or not math.isfinite(grown) or grown < 0:
        return None
    return grown / passed


def _timeline(
    record: Record, within: Sequence[tuple[float, list[Second]]], series: Iterable[Series]
) -> Timeline:
    moments = tuple(at for at, _ in within)
    return Timeline(length_s(record), _width(record), moments, tuple(series))


def _width(record: Record) -> float:
    length = length_s(record)
    wide = next((width for width in _WIDTHS_S if length / width <= _POINTS), None)
    return float(wide or math.ceil(length / _POINTS))


def _bucketed(record: Record, group: str | None) -> list[tuple[float, list[Second]]]:
    found: dict[float, list[Second]] = defaultdict(list)
    width = _width(record)
    for one in record.seconds_of:
        if group in (None, one.group):
            found[max(0, one.at) // width * width].append(one)
    return sorted(found.items())


def _sampled(record: Record) -> list[tuple[float, list[Sample]]]:
    found: dict[float, list[Sample]] = defaultdict(list)
    width = _width(record)
    for one in sorted(record.samples, key=lambda one: one.at):
        if math.isfinite(one.at):
            found[max(0.0, one.at) // width * width].append(one)
    return sorted(found.items())
