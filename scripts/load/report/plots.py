"""Pictures over the time of a run: bands and lines, all on the same axis, with marks for events.

Behind each stands its table, from which report.js reads what is under the pointer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final
from xml.etree.ElementTree import Element

from scripts.load.judging.figures import clock, number
from scripts.load.record import Event
from scripts.load.report import scales
from scripts.load.report.drawing import (
    BOTTOM,
    HEIGHT,
    TOP,
    behind,
    canvas,
    grid,
    legend,
    path,
    percent,
    spot,
    time_axis,
)
from scripts.load.report.markup import Child, el, table
from scripts.load.report.scales import Scale
from scripts.load.report.timelines import Series, Timeline

#: Events nearer than this, of the width, are one line.
_NEAR: Final = 0.004


@dataclass(frozen=True, slots=True)
class Bound:
    """A threshold, drawn where it lies."""

    value: float
    text: str


@dataclass(frozen=True, slots=True)
class Plot:
    """How a timeline is to look."""

    title: str
    says: Callable[[float | None], str] = number
    stacked: bool = False
    scale: Callable[[Iterable[float | None]], Scale] = scales.linear
    over: Series | None = None
    bounds: tuple[Bound, ...] = ()
    note: str | None = None
    #: Beside the names in the legend.
    totals: tuple[str, ...] = ()


def plot(how: Plot, timeline: Timeline, events: Sequence[Event] = ()) -> Element:
    if not timeline.moments or not timeline.series:
        return el(
            "figure",
            el("figcaption", el("h4", how.title)),
            el("p", "Nothing of this was seen.", class_="quiet"),
            class_="chart",
        )
    all_series = [*timeline.series, *([how.over] if how.over else [])]
    scale = how.scale([*_tops(how, timeline), *(bound.value for bound in how.bounds)])
    drawn = _bands if how.stacked else _lines
    paths = drawn(timeline, scale)
    if how.over:
        paths.append(_stairs(timeline, how.over, scale))
    picture = el(
        "svg",
        grid(scale, how.says),
        time_axis(timeline.length_s),
        canvas(paths),
        _marks(events, timeline.length_s),
        (_bound(bound, scale) for bound in how.bounds),
        class_="plot",
        width="100%",
        height=TOP + HEIGHT + BOTTOM,
        role="img",
        aria_label=_told(how, all_series),
    )
    return el(
        "figure",
        el("figcaption", el("h4", how.title), _legend(how, all_series)),
        el("div", picture, class_="drawing"),
        el("p", class_="readout", aria_hidden="true"),
        el("p", how.note, class_="hint") if how.note else None,
        behind(_table(how, timeline, all_series)),
        class_="chart timed",
        data_length=timeline.length_s,
    )


def _legend(how: Plot, all_series: Sequence[Series]) -> Element:
    entries = [(one.name, one.style) for one in all_series]
    return legend(entries, bands=how.stacked, totals=how.totals)


def _tops(how: Plot, timeline: Timeline) -> list[float | None]:
    over = list(how.over.values) if how.over else []
    if not how.stacked:
        return [*timeline.values, *over]
    columns = zip(*(one.values for one in timeline.series), strict=True)
    return [*(sum(scales.finite(column)) for column in columns), *over]


def _marks(events: Sequence[Event], length: float) -> Element:
    there = sorted((event for event in events if scales.finite([event.at])), key=lambda e: e.at)
    places = [min(1.0, max(0.0, event.at / length)) for event in there]
    return el(
        "g",
        (
            el("line", class_=f"mark e-{there[i].kind}", x1=percent(places[i]),
               x2=percent(places[i]), y1=TOP, y2=TOP + HEIGHT)
            for i in scales.thinned(places, _NEAR)
        ),
        aria_hidden="true",
    )  # fmt: skip


def _bound(bound: Bound, scale: Scale) -> Element:
    y = TOP + (1 - scale(bound.value)) * HEIGHT
    return el(
        "g",
        el("line", class_="bound", x1=0, x2="100%", y1=y, y2=y),
        el("text", bound.text, class_="tick limit", x="99.5%", y=y - 4, text_anchor="end"),
        aria_hidden="true",
    )


def _spans(timeline: Timeline) -> list[tuple[float, float]]:
    """From where to where each moment lasts, 0 to 1: up to the next, but not over a gap."""
    usual = max(timeline.width_s, scales.gaps(timeline.moments))
    found = []
    for at, following in zip(timeline.moments, [*timeline.moments[1:], float("inf")], strict=True):
        end = following if following - at <= 2.5 * usual else at + usual
        found.append((at / timeline.length_s, min(1.0, end / timeline.length_s)))
    return found


def _lines(timeline: Timeline, scale: Scale) -> list[Element]:
    spans = _spans(timeline)
    found = []
    for one in timeline.series:
        points: list[tuple[float, float] | None] = []
        for (begin, end), (following, _), value in zip(
            spans, [*spans[1:], (0.0, 0.0)], one.values, strict=True
        ):
            known = scales.finite([value])
            points.append(((begin + end) / 2, scale(known[0])) if known else None)
            if following > end + 1e-9:
                points.append(None)
        found.append(path(points, one.style))
    return found


def _stairs(timeline: Timeline, one: Series, scale: Scale) -> Element:
    """A line with the corners of the bands it lies over."""
    points: list[tuple[float, float] | None] = []
    last = None
    for span, value in zip(_spans(timeline), one.values, strict=True):
        known = scales.finite([value])
        if last is None or span[0] > last + 1e-9 or not known:
            points.append(None)
        points += [(x, scale(known[0])) for x in span if known]
        last = span[1]
    return path(points, one.style)


def _bands(timeline: Timeline, scale: Scale) -> list[Element]:
    spans = _spans(timeline)
    below = [0.0] * len(spans)
    found = []
    for one in timeline.series:
        above = [
            under + max(0.0, sum(scales.finite([value])))
            for under, value in zip(below, one.values, strict=True)
        ]
        found.append(el("path", class_=f"band {one.style}", d=_outline(spans, below, above, scale)))
        below = above
    return found


def _outline(
    spans: Sequence[tuple[float, float]],
    below: Sequence[float],
    above: Sequence[float],
    scale: Scale,
) -> str:
    """There along the top and back along the foot, for each stretch without a gap."""
    parts = []
    start = 0
    for index in range(len(spans)):
        last = index == len(spans) - 1
        if not last and spans[index + 1][0] <= spans[index][1] + 1e-9:
            continue
        stretch = range(start, index + 1)
        there = [spot(x, scale(above[i])) for i in stretch for x in spans[i]]
        back = [spot(x, scale(below[i])) for i in reversed(stretch) for x in reversed(spans[i])]
        parts.append("M" + "L".join(f"{x} {y}" for x, y in [*there, *back]) + "Z")
        start = index + 1
    return "".join(parts)


def _told(how: Plot, all_series: Sequence[Series]) -> str:
    """The picture in a sentence, for who does not see it."""
    parts = []
    for one in all_series:
        values = scales.finite(one.values)
        if values:
            parts.append(f"{one.name} {how.says(min(values))} to {how.says(max(values))}")
    return f"{how.title}: {', '.join(parts) or 'nothing'}"


def _table(how: Plot, timeline: Timeline, all_series: Sequence[Series]) -> Element:
    heads = ["From", *(one.name for one in all_series)]
    rows: list[list[Child]] = [
        [
            el("span", clock(at), data_at=at),
            *(how.says(one.values[i]) for one in all_series),
        ]
        for i, at in enumerate(timeline.moments)
    ]
    return table(heads, rows, numbers=range(1, len(heads)), caption=how.title, narrow=False)
