"""Pages of load tests read more strictly than a browser would, and asked for what they say."""

from __future__ import annotations

import re
from html.parser import HTMLParser

from scripts.load.record import Record, Verdict

_VOID = {"meta", "br", "img", "input", "link", "hr"}
#: Attributes that say where something is drawn.
_DRAWN = {"d", "x", "y", "x1", "x2", "y1", "y2", "cx", "cy", "width", "height"}


class Reader(HTMLParser):
    """Notes what a browser would only forgive."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.faults: list[str] = []
        self.ids: list[str] = []
        self.targets: list[str] = []
        self.tags: list[str] = []
        self.texts: list[str] = []
        self.drawn: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        given = dict(attrs)
        if len(set(names)) < len(names):
            self.faults.append(f"<{tag}> has an attribute twice: {names}")
        if any(name.startswith("on") for name in names):
            self.faults.append(f"<{tag}> has a handler: {names}")
        self.tags.append(tag)
        self.ids += [value for name, value in attrs if name == "id" and value]
        self.drawn += [
            f"{name}={value}" for name, value in attrs if name in _DRAWN and value is not None
        ]
        where = given.get("href") or given.get("src") or ""
        if where.startswith("#"):
            self.targets.append(where[1:])
        elif where:
            self.faults.append(f"<{tag}> leads elsewhere: {where}")
        if tag not in _VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.faults.append(f"</{tag}> closes something else")

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("script", "style"):
            self.texts.append(data)


def read(text: str) -> Reader:
    reader = Reader()
    reader.feed(text)
    reader.close()
    return reader


def sound(text: str) -> Reader:
    """The page read, and nothing wrong with it."""
    reader = read(text)
    assert reader.faults == []
    assert reader.open == []
    assert len(set(reader.ids)) == len(reader.ids)
    assert set(reader.targets) <= set(reader.ids)
    assert reader.tags.count("script") == 1
    assert reader.tags.count("style") == 1
    assert reader.tags.count("h1") == 1
    bad = [found for found in reader.drawn if re.search(r"nan|inf|None|e[+-]", found)]
    assert bad == []
    return reader


def words(text: str) -> str:
    return " ".join(" ".join(read(text).texts).split())


def judged(record: Record, *verdicts: Verdict) -> Record:
    return record.model_copy(update={"verdicts": list(verdicts)})


def verdict(name: str, *, passed: bool, measure: str = "") -> Verdict:
    return Verdict(
        name=name, limit="at most 3", measured="5", passed=passed, measure=measure, bound=3.0
    )


def figure(text: str, title: str) -> str:
    """The picture with this title."""
    found: list[str] = re.findall(r"<figure.*?</figure>", text, re.DOTALL)
    return next(one for one in found if f"<h4>{title}" in one)
