"""This worker's own numbers: what its counters have grown by in a short window, as rates."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from prometheus_client import CollectorRegistry

from service.fleet.models import BOUNDS_S, Numbers
from service.metrics.readout import Readout

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
        self._readout = Readout(registry)
        self._classes = classes
        self._clock = clock
        self._history: deque[Counted] = deque()

    def look(self) -> Counted:
        """Count, and remember it as the end of a window."""
        counted = counts_of(self._readout, self._classes, at_s=self._clock())
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


def counts_of(found: Readout, classes: _Classes, *, at_s: float) -> Counted:
    """All numbers of this moment, added up by what is shown of them."""
    found.fresh()
    counts: defaultdict[tuple[str, ...], float] = defaultdict(float)
    for name, place in _PLACES.items():
        for labels, value in found.values(name):
            counts[place(labels, classes)] += value
    for labels, buckets in found.buckets(DURATIONS):
        route_class = _class(labels, classes)
        for bound, number in buckets:
            counts["seconds", route_class, str(bisect_left(BOUNDS_S, bound))] += number
    in_flight = sum(value for _, value in found.values(IN_PROGRESS))
    jobs = {labels["state"]: round(value) for labels, value in found.values(JOBS_OPEN)}
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


#: Where counters go, by their names.
_PLACES: Mapping[str, Callable[[_Labels, _Classes], tuple[str, ...]]] = {
    RESPONSES: _answer,
    DECISIONS: lambda labels, _: ("decisions", labels["policy"], labels["outcome"]),
    LOOKUPS: lambda labels, _: ("cache", f"{labels['tier']}_{labels['outcome']}"),
    PAYMENT_CALLS: lambda labels, _: ("payments", labels["outcome"]),
}
