"""What all pictures are made of: a stretched canvas, an axis, a grid, a legend, a table behind.

What is text keeps its size while the picture takes the width there is: only the drawing itself is
stretched.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Sequence
from typing import Final
from xml.etree.ElementTree import Element

from scripts.load.judging.figures import clock
from scripts.load.report import scales
from scripts.load.report.markup import el
from scripts.load.report.scales import Scale

#: Of the drawing, in px; above and below it is room for a line's width and for the axis.
HEIGHT: Final = 168
TOP: Final = 10
BOTTOM: Final = 22
#: The stretched drawing's own width.
WIDE: Final = 1000


def behind(content: Element) -> Element:
    """The table of a picture."""
    return el(
        "details",
        el("summary", "As a table"),
        el("div", content, class_="scroll tall", tabindex="0", role="group", aria_label="Table"),
        class_="astable",
    )


def legend(
    entries: Sequence[tuple[str, str]], *, bands: bool = False, totals: Sequence[str] = ()
) -> Element:
    """Names with their styles; ``totals`` stand beside the names."""
    return el(
        "ul",
        (
            el(
                "li",
                key(style, band=bands and style.startswith(("k-", "p-"))),
                name,
                el("b", totals[i]) if i < len(totals) else None,
            )
            for i, (name, style) in enumerate(entries)
        ),
        class_="legend",
    )


def key(style: str, *, band: bool) -> Element:
    """What a line or band looks like in the picture."""
    shape = (
        el("rect", class_=f"band {style}", x=1, y=1, width=12, height=10, rx=2)
        if band
        else el("path", class_=f"line {style}", d="M1 6H25")
    )
    return el("svg", shape, class_="key", width=14 if band else 26, height=12, aria_hidden="true")


def canvas(paths: Iterable[Element], *, height: int = HEIGHT) -> Element:
    """Where lines are drawn in thousandths of the width."""
    return el(
        "svg",
        paths,
        x=0,
        y=TOP,
        width="100%",
        height=height,
        viewBox=f"0 0 {WIDE} {height}",
        preserveAspectRatio="none",
        overflow="visible",
    )


def axis(
    places: Iterable[tuple[float, str]],
    *,
    lines: bool = False,
    foot: float = TOP + HEIGHT,
    yields: Container[int] = range(1, 100, 2),
) -> Element:
    """Marks along the foot; those that yield are gone where there is no room."""
    found = []
    for index, (place, text) in enumerate(places):
        x = percent(place)
        anchor = "end" if place > 0.97 else "middle"
        classes = "tick odd" if index in yields else "tick"
        if lines:
            found.append(el("line", class_="grid", x1=x, x2=x, y1=TOP, y2=TOP + HEIGHT))
        found.append(el("text", text, class_=classes, x=x, y=foot + 16, text_anchor=anchor))
    return el("g", found, aria_hidden="true")


def path(points: Iterable[tuple[float, float] | None], style: str) -> Element:
    """A line through places (0 to 1, upwards); None breaks it, and what stands alone is a dot."""
    stretches: list[list[str]] = [[]]
    for point in points:
        if point is None:
            stretches.append([])
        else:
            stretches[-1].append(" ".join(spot(*point)))
    line = "".join("M" + "L".join(one) for one in stretches if len(one) > 1)
    dots = "".join(f"M{one[0]}h.1" for one in stretches if len(one) == 1)
    drawn = el("path", class_=f"line {style}", d=line)
    return el("g", drawn, el("path", class_=f"line dot {style}", d=dots)) if dots else drawn


def grid(scale: Scale, says: Callable[[float | None], str]) -> Element:
    found = []
    for mark in scale.marks:
        y = TOP + (1 - scale(mark)) * HEIGHT
        found.append(el("line", class_="grid", x1=0, x2="100%", y1=y, y2=y))
        found.append(el("text", says(mark), class_="tick", x=-8, y=y + 4, text_anchor="end"))
    return el("g", found, aria_hidden="true")


def time_axis(length: float, *, foot: float = TOP + HEIGHT) -> Element:
    return axis(((at / length, clock(at)) for at in scales.time_marks(length)), foot=foot)


def spot(x: float, y: float) -> tuple[str, str]:
    return f"{x * WIDE:.1f}", f"{(1 - y) * HEIGHT:.1f}"


def percent(place: float) -> str:
    return f"{100 * min(1.0, max(0.0, place)):.2f}%"
