"""What went wrong, by its name, and what became of the sales."""

from __future__ import annotations

from collections import Counter
from typing import Final
from xml.etree.ElementTree import Element

from scripts.load.judging.figures import milliseconds, number, share
from scripts.load.record import Record, Sales
from scripts.load.report.bars import bar
from scripts.load.report.curves import Curve, curves
from scripts.load.report.markup import Child, badge, el, section, table

_OWN_FAULT: Final = 500


def errors(record: Record, identity: str) -> Element:
    """By type of problem; without an answer, by what was met instead."""
    found: Counter[str] = Counter()
    places: dict[str, set[str]] = {}
    for one in record.requests:
        for name, count in (
            *one.problems.items(),
            *((f"no answer: {name}", count) for name, count in one.errors.items()),
        ):
            found[name] += count
            places.setdefault(name, set()).add(one.route)
    statuses: Counter[int] = Counter()
    for one in record.requests:
        statuses.update(one.statuses)
    if not found and not statuses:
        nothing = "No request was answered, and none met an error."
        return section(f"{identity}-errors", "Errors", el("p", nothing, class_="quiet"))
    sent, most = sum(one.sent for one in record.requests), max(found.values(), default=0)
    rows: list[list[Child]] = [
        [
            el("code", name),
            number(count),
            share(count, sent),
            bar(count / most if most else 0, style="s2" if "no answer" in name else "s1"),
            el("span", _places(places[name]), class_="long"),
        ]
        for name, count in found.most_common()
    ]
    problems = table(
        ("Problem", "Requests", "Of all", "", "Routes"),
        rows,
        numbers=(1, 2),
        caption="Errors by type of problem",
        class_="bars",
    )
    return section(
        f"{identity}-errors",
        "Errors",
        el("div", problems, class_="scroll")
        if rows
        else el("p", "✓ No problem was answered, and every request was.", class_="quiet"),
        el(
            "p",
            el("span", "Statuses: ", class_="quiet"),
            el("span", (_status(code, count) for code, count in sorted(statuses.items())),
               class_="chips"),
        ),
    )  # fmt: skip


def sales(record: Record, identity: str) -> Element | None:
    found = record.sales
    if found is None:
        return None
    accepted = found.begun - found.refused
    steps = (
        ("Begun", found.begun, "s0"),
        ("Accepted", accepted, "s0"),
        ("Paid", found.paid, "s0"),
        ("Completed", found.completed, "s0"),
        ("Failed", found.failed, "s2"),
    )
    widest = max(found.begun, 1)
    funnel = table(
        ("Step", "Sales", "Of begun", ""),
        (
            [name, number(count), share(count, found.begun), bar(count / widest, style=style)]
            for name, count, style in steps
        ),
        numbers=(1, 2),
        caption="Sales from start to result",
        class_="bars funnel",
        narrow=False,
    )
    curve = curves("A whole sale", [Curve("sales", "s0", found.latency)]) if found.latency else None
    return section(
        f"{identity}-sales",
        "Sales",
        el(
            "div",
            el("div", funnel, _checks(found), class_="stack"),
            el("div", curve, _whole(found), class_="stack") if curve is not None else None,
            class_="pair",
        ),
        el("h4", "Findings", class_="over") if found.findings else None,
        el("ul", (el("li", text) for text in found.findings), class_="findings")
        if found.findings
        else None,
    )


def _whole(found: Sales) -> Element | None:
    if found.latency is None:
        return None
    text = (
        f"From the order due to the result seen: half within {milliseconds(found.latency.p50)}, "
        f"99 of 100 within {milliseconds(found.latency.p99)}."
    )
    return el("p", text, class_="hint")


def _checks(found: Sales) -> Element:
    checks = (
        ("lost", found.lost),
        ("doubled", found.doubled),
        ("wrong hashes", found.wrong_hashes),
        ("wrong times", found.wrong_times),
    )
    return el(
        "p",
        (
            badge(f"{'✗' if count else '✓'} {number(count)} {name}", "bad" if count else "good")
            for name, count in checks
        ),
        class_="chips",
    )


def _places(routes: set[str]) -> str:
    names = sorted(routes)
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _status(code: int, count: int) -> Element:
    kind = "bad" if code >= _OWN_FAULT and code != 503 else ""
    return badge(f"{code} × {number(count)}", kind)
