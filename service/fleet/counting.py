"""This worker's own numbers: what its counters have grown by in a short window, as rates."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from prometheus_client import CollectorRegistry
from prometheus_client.samples import Sample

from service.fleet.models import BOUNDS_S, Numbers
from service.metrics.readout import read

#: Rates are over so long: short enough to see a change at once, long enough to be steady.
WINDOW_S = 6.0
#: For what is in no route table, and for routes without a class.
NO_CLASS = "other"

RESPONSES = "aiohttp_responses"
DURATIONS = "aiohttp_request_duration_seconds"
IN_PROGRESS = "aiohttp_requests_in_progress"
DECISIONS = "tollgate_admission_decisions"
LOOKUPS = "tollgate_cache_lookups"
PAYMENT_CALLS = "tollgate_payment_calls"
JOBS_OPEN = "tollgate_jobs_open"
NAMES = (RESPONSES, DURATIONS, IN_PROGRESS, DECISIONS, LOOKUPS, PAYMENT_CALLS, JOBS_OPEN)

#: What is counted, by where it goes: its kind, then one or two names.
Counts = Mapping[tuple[str, ...], float]
_Labels = Mapping[str, str]
_Classes = Mapping[str, str | None]


@dataclass(frozen=True, slots=True)
class Counted:
    """All that was counted since the start of this worker, at one moment."""

    at_s: float
    counts: Counts
    in_flight: int
    #: Unfinished ones of the fleet by state; empty where this worker does not count them.
    jobs: Mapping[str, int]

    @property
    def requests(self) -> int:
        return round(sum(n for key, n in self.counts.items() if key[0] == "traffic"))


class Counting:
    """``classes`` gives the route class of a route's path."""

    def __init__(
        self,
        registry: CollectorRegistry,
        classes: Mapping[str, str | None],
        *,
        clock: Callable[[], float],
    ) -> None:
        self._registry = registry
        self._classes = classes
        self._clock = clock
        self._history: deque[Counted] = deque()

    def look(self) -> Counted:
        """Count, and remember it as the end of a window."""
        counted = counts_of(read(self._registry, NAMES), self._classes, at_s=self._clock())
        history = self._history
        history.append(counted)
        while len(history) > 2 and history[1].at_s <= counted.at_s - WINDOW_S:
            history.popleft()
        return counted

    def window(self) -> tuple[float, Counts]:
        """How long it was, and what came in it, per second."""
        if len(self._history) < 2:
            return 0.0, {}
        first, last = self._history[0], self._history[-1]
        window_s = max(last.at_s - first.at_s, 0.001)
        return window_s, {
            key: round((number - first.counts.get(key, 0.0)) / window_s, 3)
            for key, number in last.counts.items()
            if number > first.counts.get(key, 0.0)
        }


def counts_of(
    samples: Iterable[Sample], classes: Mapping[str, str | None], *, at_s: float
) -> Counted:
    """The samples of one look, added up by what is shown of them."""
    counts: defaultdict[tuple[str, ...], float] = defaultdict(float)
    buckets: defaultdict[tuple[str, ...], list[tuple[float, float]]] = defaultdict(list)
    in_flight, jobs = 0.0, dict[str, int]()
    for sample in samples:
        name, labels, value = sample.name, sample.labels, sample.value
        if (place := _PLACES.get(name)) is not None:
            counts[place(labels, classes)] += value
        elif name == f"{DURATIONS}_bucket":
            series = (v for label, v in sorted(labels.items()) if label != "le")
            buckets[_class(labels, classes), *series].append((float(labels["le"]), value))
        elif name == IN_PROGRESS:
            in_flight += value
        elif name == JOBS_OPEN:
            jobs[labels["state"]] = round(value)
    for (route_class, *_), found in buckets.items():
        below = 0.0
        for bound, so_far in sorted(found):
            counts["seconds", route_class, str(bisect_left(BOUNDS_S, bound))] += so_far - below
            below = so_far
    return Counted(at_s, counts, round(in_flight), jobs)


def numbers_of(rates: Counts) -> Numbers:
    """What came in a window, by what it is."""
    tables: dict[str, defaultdict[str, dict[str, float]]] = {
        kind: defaultdict(dict) for kind in ("traffic", "seconds", "decisions")
    }
    rows: dict[str, dict[str, float]] = {"cache": {}, "payments": {}}
    for (kind, *names), rate in rates.items():
        if kind in rows:
            rows[kind][names[0]] = rate
        else:
            tables[kind][names[0]][names[1]] = rate
    return Numbers(
        traffic=dict(tables["traffic"]),
        decisions=dict(tables["decisions"]),
        seconds={
            route_class: tuple(found.get(str(i), 0.0) for i in range(len(BOUNDS_S) + 1))
            for route_class, found in tables["seconds"].items()
        },
        cache=rows["cache"],
        payments=rows["payments"],
    )


def _class(labels: Mapping[str, str], classes: Mapping[str, str | None]) -> str:
    return classes.get(labels["path_template"]) or NO_CLASS


def _answer(labels: _Labels, classes: _Classes) -> tuple[str, ...]:
    status = labels["status_code"]
    return "traffic", _class(labels, classes), status if status == "429" else f"{status[:1]}xx"


#: Where counters go, by the names of their samples.
_PLACES: Mapping[str, Callable[[_Labels, _Classes], tuple[str, ...]]] = {
    f"{RESPONSES}_total": _answer,
    f"{DECISIONS}_total": lambda labels, _: ("decisions", labels["policy"], labels["outcome"]),
    f"{LOOKUPS}_total": lambda labels, _: ("cache", f"{labels['tier']}_{labels['outcome']}"),
    f"{PAYMENT_CALLS}_total": lambda labels, _: ("payments", labels["outcome"]),
}
