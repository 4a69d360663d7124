"""Small bars for the cells of tables, drawn so that print keeps them."""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree.ElementTree import Element

from scripts.load.report.drawing import percent
from scripts.load.report.markup import el


def bar(share: float, *, style: str = "s0", limit: float | None = None) -> Element:
    """``share`` of the width; ``limit``: a line across."""
    return _picture(
        el("rect", class_="track", width="100%", height=12, rx=3),
        el("rect", class_=f"band {style}", width=percent(share), height=12, rx=3),
        _limit(limit),
    )


def stacked(parts: Sequence[tuple[str, float]]) -> Element:
    """Styles and shares, from left to right."""
    begin = 0.0
    found = []
    for style, share in parts:
        found.append(
            el("rect", class_=f"band {style}", x=percent(begin), width=percent(share), height=18)
        )
        begin += share
    return _picture(*found, height=18)


def span(least: float, middle: float, most: float, *, limit: float | None = None) -> Element:
    """From the least to the most, with a mark in the middle."""
    return _picture(
        el("rect", class_="track", y=4, width="100%", height=4, rx=2),
        el(
            "rect",
            class_="band s0",
            x=percent(least),
            y=2,
            width=percent(max(0.004, min(1.0, most) - least)),
            height=8,
            rx=3,
        ),
        el("circle", class_="middle", cx=percent(middle), cy=6, r=4),
        _limit(limit),
    )


def _limit(place: float | None) -> Element | None:
    if place is None:
        return None
    x = percent(place)
    return el("line", class_="limit", x1=x, x2=x, y1=-3, y2=15)


def _picture(*children: Element | None, height: int = 12) -> Element:
    return el("svg", children, class_="bar", width="100%", height=height, aria_hidden="true")
