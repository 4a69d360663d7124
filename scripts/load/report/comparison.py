"""What has changed since an earlier run."""

from __future__ import annotations

from typing import Final
from xml.etree.ElementTree import Element

from scripts.load.judging.baseline import differences
from scripts.load.judging.figures import NONE, figure
from scripts.load.judging.measures import MEASURES, Where
from scripts.load.record import Record
from scripts.load.report.markup import Child, badge, el, section, table
from scripts.load.report.verdicts import moved

#: Measures, and whether more of them is better.
_COMPARED: Final = (
    ("goodput", True),
    ("p50_ms", False),
    ("p90_ms", False),
    ("p99_ms", False),
    ("p999_ms", False),
    ("max_ms", False),
    ("refusal_p99_ms", False),
    ("failed_share", False),
    ("denied_share", None),
    ("unavailable_share", False),
    ("worst_excess", False),
    ("fairness", True),
    ("completed_share", True),
    ("sale_p99_ms", False),
    ("cpu_us", False),
    ("redis_commands", False),
    ("redis_bytes", False),
    ("queries", False),
    ("pool_share", False),
)
#: Of each route, what a reader looks at first.
_BY_ROUTE: Final = (("p50_ms", False), ("p99_ms", False))


def comparison(record: Record, baseline: Record | None, identity: str) -> Element | None:
    if baseline is None:
        return None
    rows = [
        row
        for name, more in _COMPARED
        if (row := _row(MEASURES[name].words, name, more, record, baseline, Where())) is not None
    ]
    routes = [
        row
        for one in record.requests
        for name, more in _BY_ROUTE
        if (row := _row(f"{MEASURES[name].words}: {Where(one.group, one.route)}", name, more,
                        record, baseline, Where(one.group, one.route))) is not None
    ]  # fmt: skip
    other = differences(record, baseline)
    return section(
        f"{identity}-baseline",
        "Beside the baseline",
        el(
            "p",
            f"The baseline began {baseline.began:%Y-%m-%d %H:%M}; ",
            el("code", baseline.command),
            class_="hint",
        ),
        el(
            "div",
            el("p", el("b", "Not all was the same then. "), "A change may come from there."),
            el("ul", (el("li", text) for text in other)),
            class_="notice warn",
        )
        if other
        else None,
        _table(rows, "The whole run beside its baseline"),
        el("details", el("summary", "By route"), _table(routes, "By route")) if routes else None,
    )


def _table(rows: list[list[Child]], caption: str) -> Element:
    heads = ("Measure", "Then", "Now", "Change", "Threshold")
    found = table(heads, rows, numbers=(1, 2), caption=caption, class_="compared")
    return el("div", found, class_="scroll")


def _row(
    title: str, name: str, more: bool | None, record: Record, baseline: Record, where: Where
) -> list[Child] | None:
    measure = MEASURES[name]
    then, now = measure.of(baseline, where), measure.of(record, where)
    if then is None and now is None:
        return None
    change: Child = NONE
    if then is not None and now is not None:
        change = moved(then, now, more=more, unit=measure.unit)
    return [
        title,
        figure(then, measure.unit),
        figure(now, measure.unit),
        change,
        _verdict(record, name, where),
    ]


def _verdict(record: Record, name: str, where: Where) -> Child:
    """Of the threshold set on this very change."""
    for one in record.verdicts:
        same = (one.measure, one.group, one.route) == (name, where.group, where.route)
        by_route = one.measure == name and one.route == where.route and one.group is None
        if one.against == "baseline" and (same or by_route):
            kind, sign = ("good", "✓") if one.passed else ("bad", "✗")
            return badge(f"{sign} {one.limit}", kind if one.judged else "")
    return ""
