"""Latency by percentile: how long the slowest tenth, hundredth, thousandth waited."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from xml.etree.ElementTree import Element

from scripts.load.judging.figures import milliseconds, number
from scripts.load.judging.percentiles import Distribution, Unreadable, distribution
from scripts.load.record import Latency
from scripts.load.report import scales
from scripts.load.report.drawing import (
    BOTTOM,
    HEIGHT,
    TOP,
    axis,
    behind,
    canvas,
    grid,
    legend,
    path,
)
from scripts.load.report.markup import el, table

#: Places along the axis at which the curve is read.
_STEPS: Final = 160
_SHARES: Final = (0.0, 0.5, 0.9, 0.99, 0.999, 0.9999, 0.99999, 0.999999)
#: With fewer requests than this beyond a percentile it says little; the axis ends before.
_BEYOND: Final = 1.5


@dataclass(frozen=True, slots=True)
class Curve:
    name: str
    style: str
    latency: Latency


def curves(title: str, found: Sequence[Curve]) -> Element | None:
    """None when nothing of it can be read."""
    there = [(curve, read) for curve in found if (read := _read(curve.latency)) is not None]
    if not there:
        return None
    last = max(0.9, *(1 - _BEYOND / max(read.count, 2) for _, read in there))
    lines = [(curve, _points(read, last)) for curve, read in there]
    scale = scales.latencies(value for _, points in lines for _, value in points)
    shares = [share for share in _SHARES if scales.percentile_place(share, last) <= 0.985]
    picture = el(
        "svg",
        grid(scale, milliseconds),
        axis(
            ((scales.percentile_place(share, last), _percent(share)) for share in shares),
            lines=True,
            yields=(1,) if len(shares) <= 5 else (1, 3, 5),
        ),
        canvas(
            path(((place, scale(value)) for place, value in points), curve.style)
            for curve, points in lines
        ),
        class_="plot",
        width="100%",
        height=TOP + HEIGHT + BOTTOM,
        role="img",
        aria_label=f"{title}: " + "; ".join(_told(curve, read) for curve, read in there),
    )
    return el(
        "figure",
        el(
            "figcaption",
            el("h4", title),
            legend(
                [(curve.name, curve.style) for curve, _ in there],
                totals=[f"{number(read.count)}" for _, read in there],
            ),
        ),
        el("div", picture, class_="drawing"),
        behind(_table(title, there)),
        class_="chart",
    )


def _read(latency: Latency) -> Distribution | None:
    try:
        read = distribution([latency])
    except Unreadable:
        return None
    return read if read.count else None


def _points(read: Distribution, last: float) -> list[tuple[float, float]]:
    """Each further step of the axis is a little nearer to all of them."""
    found = []
    for step in range(_STEPS + 1):
        place = step / _STEPS
        share = 1 - (1 - last) ** place
        # Beyond the longest latency there is nothing to read.
        if step and (1 - share) * read.count < min(1.0, _BEYOND / 2):
            break
        found.append((place, read.at(share)))
    return found


def _table(title: str, there: Sequence[tuple[Curve, Distribution]]) -> Element:
    most = max(read.count for _, read in there)
    shares = [share for share in _SHARES if (1 - share) * most >= 1]
    rows = [
        [_percent(share), *(milliseconds(read.at(share)) for _, read in there)] for share in shares
    ]
    rows.append(["longest", *(milliseconds(read.at(1.0)) for _, read in there)])
    heads = ["Percentile", *(curve.name for curve, _ in there)]
    return table(heads, rows, numbers=range(1, len(heads)), caption=title, narrow=False)


def _percent(share: float) -> str:
    return f"{round(100 * share, 6):g} %"


def _told(curve: Curve, read: Distribution) -> str:
    return ", ".join(
        f"{curve.name} {_percent(share)} within {milliseconds(read.at(share))}"
        for share in (0.5, 0.99)
    )
