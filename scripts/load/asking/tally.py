"""What a generator counts while it asks; everything of a second is added up when it is over."""

from __future__ import annotations

import base64
import re
from array import array
from collections import Counter
from collections.abc import Callable

from scripts.load.asking.connection import Answer
from scripts.load.asking.histogram import Histogram
from scripts.load.plan import Admitted, Counted, GroupSecond, RouteOutcome
from scripts.load.record import Kind

_POLICIES = re.compile(rb"\r\n[Rr]ate[Ll]imit-[Pp]olicy: *([^\r]+)\r\n")
_PROBLEM = re.compile(rb'"type": ?"[^"]*?([^":/#]+)"')
_TOO_MANY, _UNAVAILABLE, _WRONG, _FAILED = 429, 503, 400, 500


def kind_of(status: int) -> Kind:
    if status < _WRONG:
        return "ok"
    if status == _TOO_MANY:
        return "denied"
    if status == _UNAVAILABLE:
        return "unavailable"
    return "refused" if status < _FAILED else "failed"


class RouteTally:
    """One group's requests to one route."""

    def __init__(self, group: GroupTally, name: str) -> None:
        self.name = name
        self._group = group
        self.sent = 0
        self._kinds: Counter[Kind] = Counter()
        self._statuses: Counter[int] = Counter()
        self._problems: Counter[str] = Counter()
        self._errors: Counter[str] = Counter()
        self._served, self._refused = Histogram(), Histogram()
        # Of this second alone.
        self._new_served, self._new_refused = Histogram(), Histogram()
        self._new_statuses: dict[int, int] = {}
        self._new_errors: Counter[str] = Counter()

    def answered(
        self, answer: Answer, due_s: float, sent_s: float, at_s: float, principal: int
    ) -> None:
        status = answer.status
        us = int((at_s - due_s) * 1e6)
        self._new_statuses[status] = self._new_statuses.get(status, 0) + 1
        if status < _WRONG:
            self._new_served.record(us)
        else:
            self._new_refused.record(us)
            problem = _PROBLEM.search(answer.body)
            self._problems[
                problem[1].decode(errors="replace") if problem else f"{status}, no problem"
            ] += 1
        policies = _POLICIES.search(answer.head)
        if policies is not None:
            self._group.admissions.add(policies[1], principal, status, sent_s, at_s)

    def failed(self, why: str) -> None:
        self._new_errors[why] += 1

    def turn(self) -> tuple[Counter[Kind], Histogram]:
        """The second is over: what it had, which now belongs to all."""
        kinds: Counter[Kind] = Counter()
        for status, count in self._new_statuses.items():
            kinds[kind_of(status)] += count
        self._statuses.update(self._new_statuses)
        for why, count in self._new_errors.items():
            kinds["failed"] += count
            self._errors[why] += count
        served = self._new_served
        self._kinds += kinds
        self._served.add(served)
        self._refused.add(self._new_refused)
        self._new_served, self._new_refused = Histogram(), Histogram()
        self._new_statuses, self._new_errors = {}, Counter()
        return kinds, served

    def outcome(self) -> RouteOutcome:
        return RouteOutcome(
            group=self._group.name,
            route=self.name,
            sent=self.sent,
            kinds=dict(self._kinds),
            statuses=dict(self._statuses),
            problems=dict(self._problems),
            errors=dict(self._errors),
            served=counted(self._served),
            refused=counted(self._refused),
        )


class GroupTally:
    def __init__(self, name: str) -> None:
        self.name = name
        self.routes: dict[str, RouteTally] = {}
        self.due = 0
        self.in_flight = 0
        self.admissions = Admissions()

    def route(self, name: str) -> RouteTally:
        if name not in self.routes:
            self.routes[name] = RouteTally(self, name)
        return self.routes[name]

    def turn(self) -> GroupSecond:
        kinds: Counter[Kind] = Counter()
        latencies = Histogram()
        for route in self.routes.values():
            new_kinds, served = route.turn()
            kinds += new_kinds
            latencies.add(served)
        due, self.due = self.due, 0
        return GroupSecond(
            group=self.name,
            due=due,
            kinds=dict(kinds),
            latencies=counted(latencies),
            in_flight=self.in_flight,
        )


class Admissions:
    """Both moments of everything that was let in, by the policies named and the principal."""

    def __init__(self) -> None:
        self._offered: Counter[tuple[bytes, int]] = Counter()
        self._spans: dict[tuple[bytes, int], array[float]] = {}

    def add(self, policies: bytes, principal: int, status: int, sent_s: float, at_s: float) -> None:
        key = (policies, principal)
        self._offered[key] += 1
        # What failed may have been let in or not: nobody is accused for it.
        if status != _TOO_MANY and status < _FAILED:
            spans = self._spans.get(key)
            if spans is None:
                spans = self._spans[key] = array("d")
            spans.append(sent_s)
            spans.append(at_s)

    def told(self, group: str, address: Callable[[int], str]) -> list[Admitted]:
        nothing = array("d")
        return [
            Admitted(
                group=group,
                policies=policies.decode("latin-1"),
                principal=address(principal),
                offered=offered,
                sent=_base64(self._spans.get((policies, principal), nothing)[::2]),
                answered=_base64(self._spans.get((policies, principal), nothing)[1::2]),
            )
            for (policies, principal), offered in self._offered.items()
        ]


def counted(histogram: Histogram) -> Counted:
    return Counted(counts=histogram.counts, total_us=histogram.total_us, max_us=histogram.max_us)


def histogram_of(told: Counted) -> Histogram:
    made = Histogram()
    made.counts, made.total_us, made.max_us = dict(told.counts), told.total_us, told.max_us
    return made


def _base64(moments: array[float]) -> str:
    return base64.b64encode(moments.tobytes()).decode()
