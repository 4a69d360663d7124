"""What the run asked of the fleet and of what it stands on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final
from xml.etree.ElementTree import Element

from scripts.load.judging.figures import change, figure, milliseconds, number, size
from scripts.load.record import Record, Sample
from scripts.load.report import timelines
from scripts.load.report.bars import bar, stacked
from scripts.load.report.drawing import legend
from scripts.load.report.markup import Child, el, section, table
from scripts.load.report.plots import Plot, plot

#: As many as have colours of their own; further parts share the last.
_STYLES: Final = 6
#: Of a pool; below it its size would flatten what is in use.
_NEAR: Final = 0.3


def costs(record: Record, baseline: Record | None, identity: str) -> Element | None:
    if record.costs is None and not record.samples:
        return None
    found = list(_charts(record))
    return section(
        f"{identity}-costs",
        "What it cost",
        list(_per_request(record, baseline)),
        el("div", found, class_="pair") if found else None,
    )


def generator(record: Record, identity: str) -> Element:
    """Whether the figures are the fleet's."""
    state = record.generator
    rows: list[list[Child]] = [
        [f"Process {number(i + 1)}", f"{number(round(100 * share, 1))} %", _share_bar(share)]
        for i, share in enumerate(state.cpu_share)
    ]
    return section(
        f"{identity}-generator",
        "The generator",
        el("p", state.says, class_="notice warn" if state.bottleneck else "notice good"),
        el(
            "p",
            f"{number(state.processes)} processes; 99 of 100 requests left within "
            f"{figure(state.late_p99_ms, 'ms')} of when they were due.",
        ),
        table(
            ("Process", "Of a core", ""),
            rows,
            numbers=(1,),
            caption="Processor time of the generator",
            class_="bars",
            narrow=False,
        )
        if rows
        else None,
        _references(record),
    )


def _references(record: Record) -> Element | None:
    if not record.references:
        return None
    rows: list[list[Child]] = [
        [
            el("code", one.command),
            f"{number(one.per_second)} /s",
            f"{number(one.ours_per_second)} /s",
            change(one.per_second, one.ours_per_second),
            milliseconds(one.p50_ms),
            milliseconds(one.p99_ms),
        ]
        for one in record.references
    ]
    heads = ("In the same minutes", "Its throughput", "Ours", "Apart", "Its p50", "Its p99")
    found = table(heads, rows, numbers=range(1, 6), caption="Beside another generator")
    return el("div", found, class_="scroll")


def _share_bar(share: float) -> Element:
    return bar(share, style="s2" if share > 0.9 else "s0")


def _style(index: int) -> str:
    return f"p-{min(index, _STYLES - 1)}"


def _parts(record: Record, baseline: Record | None) -> list[str]:
    """Those that have done anything."""
    names: dict[str, None] = {}
    for one in (record, baseline):
        if one is not None and one.costs is not None:
            names.update((part, None) for part, spent in one.costs.cpu_us.items() if spent > 0)
    for sample in record.samples[-1:]:
        names.update((part, None) for part, spent in sample.cpu_s.items() if spent > 0)
    return list(names)


def _per_request(record: Record, baseline: Record | None) -> Iterator[Element]:
    if record.costs is None:
        return
    parts = _parts(record, baseline)
    runs = [("this run", record.costs)]
    if baseline is not None and baseline.costs is not None:
        runs.append(("baseline", baseline.costs))
    most = max(sum(costs.cpu_us.values()) for _, costs in runs)
    if most > 0:
        rows: list[list[Child]] = [
            [
                name,
                figure(sum(costs.cpu_us.values()), "µs"),
                stacked(
                    [(_style(i), costs.cpu_us.get(part, 0) / most) for i, part in enumerate(parts)]
                ),
                *(figure(costs.cpu_us.get(part), "µs") for part in parts),
            ]
            for name, costs in runs
        ]
        heads = ["Run", "Together", "", *parts]
        numbers = [1, *range(3, len(heads))]
        yield el(
            "figure",
            el(
                "figcaption",
                el("h4", "CPU per request"),
                legend([(part, _style(i)) for i, part in enumerate(parts)], bands=True),
            ),
            el(
                "div",
                table(heads, rows, numbers=numbers, caption="CPU per request", class_="bars"),
                class_="scroll",
            ),
            class_="chart",
        )
    rows = [
        [
            name,
            number(costs.redis_commands),
            size(costs.redis_bytes),
            number(costs.queries),
        ]
        for name, costs in runs
    ]
    yield el(
        "div",
        table(
            ("Per request", "Redis commands", "Redis traffic", "PostgreSQL queries"),
            rows,
            numbers=(1, 2, 3),
            caption="Redis and PostgreSQL per request",
        ),
        class_="scroll",
    )


def _charts(record: Record) -> Iterator[Element]:
    if len(record.samples) < 2:
        return
    parts = _parts(record, None)
    cpu = timelines.rates(record, *((part, _style(i), _cpu(part)) for i, part in enumerate(parts)))
    yield plot(Plot("Cores busy", stacked=True), cpu, record.events)
    yield _pool(record)
    yield plot(
        Plot("Redis commands and queries a second"),
        timelines.rates(
            record,
            ("Redis commands", "s0", lambda one: float(one.redis_commands)),
            ("queries", "s1", lambda one: float(one.queries)),
        ),
        record.events,
    )
    yield plot(
        Plot("Requests in flight"),
        timelines.levels(record, ("in flight", "s0", lambda one: float(one.in_flight))),
        record.events,
    )
    if any(one.shed or one.denied_locally for one in record.samples):
        yield plot(
            Plot("Refused before Redis was asked, a second"),
            timelines.rates(
                record,
                ("denied by the worker alone", "s1", lambda one: float(one.denied_locally)),
                ("shed", "s2", lambda one: float(one.shed)),
            ),
            record.events,
        )


def _pool(record: Record) -> Element:
    """The size of the pools is drawn where it is near."""
    size = max(one.pool_size for one in record.samples)
    lines = [("in use", "s0", lambda one: float(one.pool_in_use))]
    if max(one.pool_in_use for one in record.samples) > _NEAR * size:
        lines.append(("in the pools", "s4", lambda one: float(one.pool_size)))
    title = f"Database connections in use, of {number(size)}"
    return plot(Plot(title), timelines.levels(record, *lines), record.events)


def _cpu(part: str) -> Callable[[Sample], float]:
    return lambda sample: sample.cpu_s.get(part, 0.0)
