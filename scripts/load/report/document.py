"""The whole page: one run after the other, each with its parts, and the way to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final
from xml.etree.ElementTree import Element, fromstring

from scripts.load.judging.figures import figure, number, seconds
from scripts.load.judging.measures import MEASURES, Where
from scripts.load.record import Record
from scripts.load.report import comparison, costs, faults, limits, traffic, verdicts
from scripts.load.report.markup import Child, badge, el, html, table

_HERE: Final = Path(__file__).parent
_ICON: Final = _HERE.parents[2] / "service" / "api" / "static" / "shop" / "icon.svg"
#: Parts of a run, in the order in which they stand, with their names in the way to them.
_PARTS: Final = (
    ("traffic", "Traffic"),
    ("latency", "Latency"),
    ("routes", "Routes"),
    ("limits", "Limits"),
    ("sales", "Sales"),
    ("errors", "Errors"),
    ("costs", "Costs"),
    ("generator", "Generator"),
    ("baseline", "Baseline"),
    ("thresholds", "Thresholds"),
    ("run", "What ran"),
)


def report(record: Record, baseline: Record | None = None) -> str:
    """One run as a page of its own: nothing has to be fetched to read it."""
    baselines = {} if baseline is None else {record.scenario: baseline}
    return page([record], baselines)


def page(records: Sequence[Record], baselines: Mapping[str, Record] | None = None) -> str:
    """Several runs of one call; ``baselines`` by scenario."""
    runs = [
        (f"run{i + 1}", record, (baselines or {}).get(record.scenario))
        for i, record in enumerate(records)
    ]
    alone = len(runs) == 1
    articles = [_article(*run, alone=alone) for run in runs]
    title = records[0].title if alone else "Load tests"
    kinds = {verdicts.outcome(record)[0] for record in records}
    sign = "✗" if "bad" in kinds else "!" if "warn" in kinds else "✓"
    return html(
        el(
            "html",
            el(
                "head",
                el("meta", charset="utf-8"),
                el("meta", name="viewport", content="width=device-width, initial-scale=1"),
                el("meta", name="color-scheme", content="light dark"),
                el("title", f"{sign} {title} · Tollgate load test"),
                el("style", _own("report.css")),
            ),
            el(
                "body",
                el("a", "Skip to the content", class_="skip", href="#main"),
                _top(runs, articles),
                el(
                    "main",
                    el("h1", title if alone else f"{len(runs)} load tests"),
                    el("p", records[0].purpose, class_="lead") if alone else _overview(runs),
                    articles,
                    id="main",
                    class_="wide",
                    tabindex="-1",
                ),
                el("footer", el("p", _foot(records)), class_="wide"),
                el("script", _own("report.js")),
            ),
            lang="en",
        )
    )


def _article(identity: str, record: Record, baseline: Record | None, *, alone: bool) -> Element:
    found = el(
        "article",
        el("h2", record.title, id=f"{identity}-title"),
        el("p", record.purpose, class_="lead"),
        None if alone else el("nav", aria_label=f"Parts of {record.title}", class_="parts"),
        verdicts.banner(record, identity),
        verdicts.warning(record),
        verdicts.tiles(record, baseline),
        traffic.throughput(record, identity),
        traffic.latency(record, baseline, identity),
        traffic.routes(record, baseline, identity),
        limits.limits(record, identity),
        faults.sales(record, identity),
        faults.errors(record, identity),
        costs.costs(record, baseline, identity),
        costs.generator(record, identity),
        comparison.comparison(record, baseline, identity),
        verdicts.all_verdicts(record, identity),
        verdicts.what_ran(record, identity),
        id=identity,
        class_="run",
        aria_labelledby=f"{identity}-title",
    )
    for parts in found.iter("nav"):
        parts.extend(_ways(found, identity))
    return found


def _top(runs: Sequence[tuple[str, Record, Record | None]], articles: Sequence[Element]) -> Element:
    if len(runs) == 1:
        ways = _ways(articles[0], runs[0][0])
        kind, word = verdicts.outcome(runs[0][1])
        outcome = badge(word, kind)
    else:
        ways = [
            el("a", f"{verdicts.outcome(record)[1][0]} {record.scenario}", href=f"#{identity}")
            for identity, record, _ in runs
        ]
        outcome = _of_all([verdicts.outcome(record)[0] for _, record, _ in runs])
    return el(
        "header",
        el(
            "div",
            el("span", _icon(), el("span", "Tollgate ", el("span", "load test", class_="quiet")),
               class_="brand"),
            el("nav", ways, aria_label="Parts of this page"),
            outcome,
            class_="wide",
        ),
        class_="top",
    )  # fmt: skip


def _of_all(kinds: Sequence[str]) -> Element:
    if "bad" in kinds:
        return badge(f"✗ {kinds.count('bad')} failed", "bad")
    return badge("! not all judged", "warn") if "warn" in kinds else badge("✓ all passed", "good")


def _ways(article: Element, identity: str) -> list[Element]:
    there = {node.get("id") for node in article.iter("section")}
    return [
        el("a", name, href=f"#{identity}-{part}")
        for part, name in _PARTS
        if f"{identity}-{part}" in there
    ]


def _overview(runs: Sequence[tuple[str, Record, Record | None]]) -> Element:
    shown = ("goodput", "p50_ms", "p99_ms", "failed", "denied", "worst_excess")
    rows: list[list[Child]] = []
    for identity, record, _ in runs:
        kind, word = verdicts.outcome(record)
        measured = [MEASURES[name] for name in shown]
        rows.append(
            [
                el("a", record.title, href=f"#{identity}"),
                badge(word, kind),
                seconds(record.seconds),
                *(figure(one.of(record, Where()), one.unit) for one in measured),
            ]
        )
    heads = ("Scenario", "Verdict", "Lasted", "Served", "p50", "p99", "Failed", "Denied",
             "Worst window")  # fmt: skip
    found = table(heads, rows, numbers=range(2, len(heads)), caption="The runs of this call")
    return el("div", found, class_="panel")


def _foot(records: Sequence[Record]) -> str:
    sent = sum(one.sent for record in records for one in record.requests)
    began = records[0].began
    return (
        f"{number(sent)} requests · began {began:%Y-%m-%d %H:%M} · "
        "times count from when a request was due"
    )


def _icon() -> Element:
    """The house's sign; the name space is HTML's own affair."""
    icon = fromstring(_ICON.read_text(encoding="utf-8"))  # noqa: S314 - our own file
    for node in icon.iter():
        node.tag = node.tag.rpartition("}")[2]
    icon.attrib.update({"width": "28", "height": "28", "aria-hidden": "true"})
    return icon


def _own(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")
