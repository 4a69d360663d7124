"""What was asked, how it was answered, and how long that took."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final
from xml.etree.ElementTree import Element

from scripts.load.judging.figures import NONE, milliseconds, number, share
from scripts.load.judging.measures import MEASURES, Where
from scripts.load.record import KINDS, Kind, Record, Requests
from scripts.load.report import scales, timelines
from scripts.load.report.curves import Curve, curves
from scripts.load.report.lanes import lanes
from scripts.load.report.markup import Child, el, section, table
from scripts.load.report.plots import Bound, Plot, plot

#: More pictures than these of one sort nobody compares; the table has all.
_GROUPS: Final = 4
_ROUTES: Final = 9
#: Of the first groups, in every picture that compares them.
_STYLES: Final = ("s0", "s1", "s3", "s2")
#: Where less than this is not served, it is too thin to be seen above what is.
_THIN: Final = 0.25
WORDS: Final[dict[Kind, str]] = {
    "ok": "served",
    "denied": "denied (429)",
    "unavailable": "unavailable (503)",
    "refused": "refused (4xx)",
    "failed": "failed (5xx, no answer)",
}


def throughput(record: Record, identity: str) -> Element:
    groups = timelines.groups(record)
    charts = [_answers(record, None, "Answers a second")]
    others = _others(record)
    if others is not None:
        charts.append(others)
    by_group = []
    if 1 < len(groups) <= _GROUPS:
        by_group = [_answers(record, group, f"Answers a second: {group}") for group in groups]
    happened = record.events or any(one.breaker not in ("closed", "") for one in record.samples)
    return section(
        f"{identity}-traffic",
        "Traffic",
        charts,
        lanes(record) if happened else None,
        el("div", by_group, class_="pair") if by_group else None,
    )


def latency(record: Record, baseline: Record | None, identity: str) -> Element:
    groups = timelines.groups(record)
    charts = [_latencies(record, group, one_of=len(groups)) for group in groups[:_GROUPS]]
    found = list(_curves(record, baseline))
    return section(
        f"{identity}-latency",
        "Latency",
        el(
            "p",
            "Counted from the moment a request was due, so waiting behind a slow answer counts.",
            class_="hint",
        ),
        el("div", charts, class_="pair") if len(charts) > 1 else charts,
        el("h4", "By percentile", class_="over") if found else None,
        el("div", found, class_="three") if len(found) > 1 else found,
        _left_out(record) if len(_by_route(record)) > _ROUTES else None,
    )


def routes(record: Record, baseline: Record | None, identity: str) -> Element | None:
    if not record.requests:
        return None
    kinds = [kind for kind in KINDS if any(one.kinds.get(kind) for one in record.requests)]
    heads = ["Route", "Group", "Sent", *(WORDS[kind].split(" ")[0] for kind in kinds)]
    heads += ["p50", "p90", "p99", "p99.9", "longest"]
    if baseline is not None:
        heads.append("p99 then")
    rows = [_row(one, kinds, baseline) for one in _largest(record)]
    return section(
        f"{identity}-routes",
        "Routes",
        el(
            "div",
            table(heads, rows, numbers=range(2, len(heads)), caption="Routes", class_="routes"),
            class_="scroll",
        ),
        el("p", "Latencies are of what was served (2xx, 3xx).", class_="hint"),
    )


def _answers(record: Record, group: str | None, title: str) -> Element:
    counts = _counts(record, group)
    total = sum(counts.values())
    timeline = timelines.answers(record, group=group)
    named = timelines.named(timeline, {str(kind): word for kind, word in WORDS.items()})
    kinds = [kind for kind in KINDS if any(one.style == f"k-{kind}" for one in timeline.series)]
    how = Plot(
        title,
        stacked=True,
        over=timelines.due(record, group),
        totals=tuple(f"{number(counts[kind])} ({share(counts[kind], total)})" for kind in kinds),
    )
    return plot(how, named, record.events)


def _others(record: Record) -> Element | None:
    counts = _counts(record, None)
    served, total = counts["ok"], sum(counts.values())
    if served == total or total - served > _THIN * total:
        return None
    only = [kind for kind in KINDS if kind != "ok"]
    timeline = timelines.named(
        timelines.answers(record, only=only), {str(kind): word for kind, word in WORDS.items()}
    )
    return plot(Plot("Of these not served, a second", stacked=True), timeline, record.events)


def _counts(record: Record, group: str | None) -> dict[Kind, int]:
    return {
        kind: sum(one.kinds.get(kind, 0) for one in record.seconds_of if group in (None, one.group))
        for kind in KINDS
    }


def _latencies(record: Record, group: str, *, one_of: int) -> Element:
    timeline = timelines.latencies(record, group)
    note = None
    if timeline.width_s > 1:
        note = (
            f"Each point is {number(timeline.width_s)} s: "
            "the middle p50 of its seconds, the highest p99."
        )
    how = Plot(
        f"Latency of what was served: {group}" if one_of > 1 else "Latency of what was served",
        says=milliseconds,
        scale=scales.latencies,
        bounds=tuple(_bounds(record, group)),
        note=note,
    )
    return plot(how, timeline, record.events)


def _bounds(record: Record, group: str) -> Iterator[Bound]:
    """Thresholds of this group's p99, over all routes."""
    for one in record.verdicts:
        of_all = one.route is None and one.group in (None, group)
        if one.measure == "p99_ms" and of_all and one.bound is not None and one.bound > 0:
            yield Bound(one.bound, f"p99 {one.limit}")


def _largest(record: Record) -> list[Requests]:
    return sorted(record.requests, key=lambda one: -one.sent)


def _curves(record: Record, baseline: Record | None) -> Iterator[Element]:
    for name, found in list(_by_route(record).items())[:_ROUTES]:
        styles = dict(zip(timelines.groups(record), _STYLES, strict=False))
        picture = curves(name, list(_lines_of(found, baseline, styles)))
        if picture is not None:
            yield picture


def _by_route(record: Record) -> dict[str, list[Requests]]:
    found: dict[str, list[Requests]] = {}
    for one in _largest(record):
        found.setdefault(one.route, []).append(one)
    return found


def _lines_of(
    found: Sequence[Requests], baseline: Record | None, styles: Mapping[str, str]
) -> Iterator[Curve]:
    """Where several groups ask for the same, it is they who are compared."""
    if len(found) > 1:
        for one in found:
            if one.latency is not None and one.group in styles:
                yield Curve(one.group, styles[one.group], one.latency)
        return
    for one in found:
        if one.latency is not None:
            yield Curve("this run", "s0", one.latency)
        before = _before(one, baseline)
        if before is not None and before.latency is not None:
            yield Curve("baseline", "s4", before.latency)
        if one.refusal_latency is not None:
            yield Curve("refusals", "s1", one.refusal_latency)


def _left_out(record: Record) -> Element:
    count = len(_by_route(record)) - _ROUTES
    text = f"{count} more below, in the table of routes: these are the {_ROUTES} asked most."
    return el("p", text, class_="hint")


def _before(one: Requests, baseline: Record | None) -> Requests | None:
    there = baseline.requests if baseline is not None else []
    same = (other for other in there if (other.group, other.route) == (one.group, one.route))
    return next(same, None)


def _row(one: Requests, kinds: list[Kind], baseline: Record | None) -> list[Child]:
    found = one.latency
    row: list[Child] = [el("code", one.route), one.group, number(one.sent)]
    row += [number(one.kinds.get(kind, 0)) for kind in kinds]
    row += [
        milliseconds(value)
        for value in (
            (found.p50, found.p90, found.p99, found.p999, found.max) if found else [None] * 5
        )
    ]
    if baseline is not None:
        then = MEASURES["p99_ms"].of(baseline, Where(one.group, one.route))
        row.append(milliseconds(then) if then is not None else NONE)
    return row
