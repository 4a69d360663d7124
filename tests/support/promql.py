"""What Prometheus expressions name: metrics with the labels and values they are selected by.

No parser of PromQL (promtool is): it finds names of ours, the selector after each, and the labels
of ``by``, ``without`` and ``on``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_SERIES = re.compile(r"\b((?:tollgate|aiohttp)_\w+|up)\b(?:\{([^}]*)\})?")
_RECORDED = re.compile(r"\btollgate:[\w:]+")
_MATCHER = re.compile(r'(\w+)\s*(=~|!~|!=|=)\s*"((?:[^"\\]|\\.)*)"')
_GROUPED = re.compile(r"\b(?:by|without|on)\s*\(([^)]*)\)")
_TEXT = re.compile(r'"(?:[^"\\]|\\.)*"')


@dataclass(frozen=True, slots=True)
class Selected:
    """One series of an expression: its name, and (label, operator, value) of each matcher."""

    name: str
    matchers: tuple[tuple[str, str, str], ...]


def selected(expression: str) -> Iterator[Selected]:
    blank = _TEXT.sub(lambda text: text[0], expression)
    for name, selector in _SERIES.findall(blank):
        yield Selected(name, tuple(_MATCHER.findall(selector)))


def recorded(expression: str) -> set[str]:
    """Series of recording rules that are used."""
    return set(_RECORDED.findall(expression))


def grouped_by(expression: str) -> set[str]:
    return {
        label.strip()
        for labels in _GROUPED.findall(expression)
        for label in labels.split(",")
        if label.strip()
    }
