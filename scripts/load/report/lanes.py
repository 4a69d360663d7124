"""What happened when, a lane for each kind of event, and how the breaker stood."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from xml.etree.ElementTree import Element

from scripts.load.judging.figures import clock
from scripts.load.record import Event, Record
from scripts.load.report import scales
from scripts.load.report.drawing import BOTTOM, behind, percent, time_axis
from scripts.load.report.markup import el, table
from scripts.load.report.timelines import length_s

_HIGH: Final = 26
#: A longer list stands behind its picture.
_LISTED: Final = 12


def lanes(record: Record) -> Element:
    """What happened when, a lane for each kind, and how the breaker stood."""
    kinds = list(dict.fromkeys(event.kind for event in record.events))
    states = _states(record)
    if states and "breaker" not in kinds:
        kinds.insert(0, "breaker")
    length = length_s(record)
    height = _HIGH * len(kinds) + BOTTOM
    parts: list[Element] = []
    for row, kind in enumerate(kinds):
        y = row * _HIGH
        middle = y + _HIGH / 2
        parts.append(el("text", kind, class_="tick", x=-8, y=middle + 4, text_anchor="end"))
        parts.append(el("rect", class_="lane", x=0, y=y + 3, width="100%", height=_HIGH - 6, rx=4))
        if kind == "breaker":
            parts += [_state(begin, end, state, length, y + 3, _HIGH - 6)
                      for begin, end, state in states]  # fmt: skip
        parts += [
            el(
                "circle",
                el("title", f"{clock(event.at)} {event.text}"),
                class_=f"event e-{event.kind}",
                cx=percent(event.at / length),
                cy=middle,
                r=5,
            )
            for event in record.events
            if event.kind == kind
        ]
    parts.append(time_axis(length, foot=_HIGH * len(kinds)))
    told = "; ".join(f"{clock(event.at)} {event.text}" for event in record.events[:20])
    return el(
        "figure",
        el("figcaption", el("h4", "Events"), _state_legend(states)),
        el(
            "div",
            el("svg", parts, class_="plot", width="100%", height=height, role="img",
               aria_label=f"Events: {told or 'none'}"),
            class_="drawing",
        ),
        el("p", class_="readout", aria_hidden="true"),
        _event_table(record.events),
        class_="chart timed",
        data_length=length,
    )  # fmt: skip


def _event_table(events: Sequence[Event]) -> Element | None:
    if not events:
        return None
    told = table(
        ("When", "What", "In words"),
        ((clock(event.at), event.kind, event.text)
         for event in sorted(events, key=lambda event: event.at)),
        caption="Events",
        narrow=False,
        class_="events",
    )  # fmt: skip
    return told if len(events) <= _LISTED else behind(told)


def _states(record: Record) -> list[tuple[float, float, str]]:
    """From when to when the breaker was not closed."""
    found: list[tuple[float, float, str]] = []
    samples = [one for one in record.samples if scales.finite([one.at])]
    for before, after in zip(samples, [*samples[1:], *samples[-1:]], strict=True):
        if before.breaker in ("closed", ""):
            continue
        if found and found[-1][2] == before.breaker and found[-1][1] == before.at:
            found[-1] = (found[-1][0], after.at, before.breaker)
        else:
            found.append((before.at, after.at, before.breaker))
    return found


def _state(begin: float, end: float, state: str, length: float, y: float, height: float) -> Element:
    tall = height if state == "open" else height * 0.6
    return el(
        "rect",
        class_="state open" if state == "open" else "state half-open",
        x=percent(begin / length),
        y=y + height - tall,
        width=percent(max(0.004, (end - begin) / length)),
        height=tall,
    )


def _state_legend(states: Sequence[tuple[float, float, str]]) -> Element | None:
    if not states:
        return None
    kinds = (("open", "breaker open"), ("half-open", "half-open"))
    return el(
        "ul",
        (
            el(
                "li",
                el("svg", el("rect", class_=f"state {kind}", y=1, width=12, height=10, rx=2),
                   class_="key", width=14, height=12, aria_hidden="true"),
                name,
            )
            for kind, name in kinds
        ),
        class_="legend",
    )  # fmt: skip
