"""HTML and SVG as a tree of elements: what is text stays text, whatever stands in it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final
from xml.etree.ElementTree import Element, tostring

Child = Element | str | None
Attribute = str | int | float | bool | None

#: What no document may hold: controls, lone surrogates, what is no character.
_FOREIGN: Final = re.compile(
    "[\x00-\x08\x0b\x0c\r\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]"
)
_REPLACEMENT: Final = "\N{REPLACEMENT CHARACTER}"


def el(tag: str, *children: Child | Iterable[Child], **attributes: Attribute) -> Element:
    """``class_`` is class, ``aria_label`` aria-label; None leaves an attribute or child out."""
    found = Element(tag)
    for name, value in attributes.items():
        if value is None or value is False:
            continue
        key = name.rstrip("_").replace("_", "-")
        found.set(key, key if value is True else clean(_attribute(value)))
    for child in children:
        parts = [child] if child is None or isinstance(child, str | Element) else child
        for part in parts:
            _append(found, part)
    return found


def clean(text: str) -> str:
    return _FOREIGN.sub(_REPLACEMENT, text)


def html(root: Element) -> str:
    return "<!DOCTYPE html>\n" + tostring(root, encoding="unicode", method="html") + "\n"


def table(
    heads: Sequence[str | Element],
    rows: Iterable[Sequence[Child]],
    *,
    numbers: Iterable[int] = (),
    caption: str,
    class_: str | None = None,
    narrow: bool = True,
) -> Element:
    """``numbers``: columns set to the right; ``narrow``: each row a card where there is no room."""
    right = set(numbers)
    classes = " ".join(part for part in ("rows" if narrow else None, class_) if part) or None

    def cell(index: int, content: Child) -> Element:
        head = heads[index]
        name = head if isinstance(head, str) else "".join(head.itertext())
        tag = "th" if index == 0 else "td"
        return el(
            tag,
            content,
            class_="number" if index in right else None,
            scope="row" if index == 0 else None,
            data_label=name if narrow and index else None,
        )

    return el(
        "table",
        el("caption", caption, class_="unseen"),
        el(
            "thead",
            el(
                "tr",
                (
                    el("th", head, scope="col", class_="number" if i in right else None)
                    for i, head in enumerate(heads)
                ),
            ),
        ),
        el(
            "tbody",
            (el("tr", (cell(i, content) for i, content in enumerate(row))) for row in rows),
        ),
        class_=classes,
    )


def badge(text: str, kind: str = "") -> Element:
    return el("span", text, class_=f"badge {kind}".strip())


def facts(pairs: Iterable[tuple[str, Child]]) -> Element:
    return el(
        "dl",
        (el("div", el("dt", name), el("dd", value)) for name, value in pairs),
        class_="facts",
    )


def section(identity: str, title: str, *children: Child | Iterable[Child]) -> Element:
    return el(
        "section",
        el("h3", title, id=f"{identity}-title"),
        *children,
        id=identity,
        class_="panel",
        aria_labelledby=f"{identity}-title",
    )


def _attribute(value: str | int | float) -> str:
    if isinstance(value, float):
        return f"{value:.3f}".rstrip("0").rstrip(".")
    return str(value)


def _append(parent: Element, child: Child) -> None:
    if child is None:
        return
    if isinstance(child, Element):
        parent.append(child)
        return
    text = clean(child)
    if len(parent):
        parent[-1].tail = (parent[-1].tail or "") + text
    else:
        parent.text = (parent.text or "") + text
