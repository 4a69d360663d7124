"""docs/logs.md lists every event there is, with its levels and fields, and no other."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
LEVELS = {"debug", "info", "warning", "error", "exception", "critical"}
#: Names given to a method of ``log`` that was chosen at run time.
CHOSEN = {"tell", "level", "report"}
#: Where an event's name is put together.
MADE = {"settlement_": ("settlement_settled", "settlement_lost")}
ROW = re.compile(
    r"^\| `(?P<event>[a-z_]+)` \| (?P<levels>[a-z, ]+) \| (?P<fields>.*?) \| (?P<text>.+) \|$"
)


@dataclass
class Event:
    levels: set[str] = field(default_factory=set)
    fields: set[str] = field(default_factory=set)


def events() -> dict[str, Event]:
    """Every event the source can log."""
    found: dict[str, Event] = {}
    for path in sorted((ROOT / "service").rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for function in ast.walk(tree):
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                for call in _calls(function):
                    for name, levels in _logged(call, function):
                        event = found.setdefault(name, Event())
                        event.levels |= levels
                        event.fields |= {k.arg for k in call.keywords if k.arg} - {"exc_info"}
    return found


def _calls(function: ast.AST) -> Iterator[ast.Call]:
    return (node for node in ast.walk(function) if isinstance(node, ast.Call))


def _logged(call: ast.Call, function: ast.AST) -> Iterator[tuple[str, set[str]]]:
    if not call.args:
        return
    match call.func:
        case ast.Attribute(value=ast.Name(id="log"), attr=attr) if attr in LEVELS:
            levels = {"error" if attr == "exception" else attr}
        case ast.Name(id=name) if name in CHOSEN:
            levels = _chosen(function, name)
        case _:
            return
    for text in _names(call.args[0]):
        yield text, levels


def _names(first: ast.expr) -> Iterator[str]:
    match first:
        case ast.Constant(value=str(text)):
            yield text
        case ast.IfExp(body=one, orelse=other):
            yield from _names(one)
            yield from _names(other)
        case ast.JoinedStr(values=[ast.Constant(value=str(start)), *_]):
            yield from MADE[start]
        case _:
            raise AssertionError(f"no event's name: {ast.unparse(first)}")


def _chosen(function: ast.AST, name: str) -> set[str]:
    """The levels among which ``name`` was chosen."""
    chosen: set[str] = set()
    for node in ast.walk(function):
        targets = [node.target] if isinstance(node, ast.AnnAssign) else getattr(node, "targets", [])
        if any(isinstance(target, ast.Name) and target.id == name for target in targets):
            chosen |= {
                part.attr
                for part in ast.walk(node)
                if isinstance(part, ast.Attribute)
                and part.attr in LEVELS
                and ast.unparse(part.value) == "log"
            }
    return chosen


def documented() -> dict[str, tuple[set[str], set[str]]]:
    rows: dict[str, tuple[set[str], set[str]]] = {}
    for line in (ROOT / "docs" / "logs.md").read_text(encoding="utf-8").splitlines():
        if row := ROW.match(line):
            assert row["event"] not in rows, row["event"]
            rows[row["event"]] = (
                set(row["levels"].split(", ")),
                set(re.findall(r"`(\w+)`", row["fields"])),
            )
    return rows


def test_every_event_is_documented_and_nothing_else() -> None:
    assert set(documented()) == set(events())


def test_levels_are_documented_as_they_are() -> None:
    told, real = documented(), events()
    assert {name: told[name][0] for name in real} == {n: e.levels for n, e in real.items()}


def test_fields_are_documented_as_they_are() -> None:
    """Those that are named in the source; ``**fields`` may add others to the table."""
    told = documented()
    missing = {name: event.fields - told[name][1] for name, event in events().items()}
    assert {name: fields for name, fields in missing.items() if fields} == {}


def test_names_are_lower_snake_case() -> None:
    assert all(re.fullmatch(r"[a-z]+(_[a-z]+)*", name) for name in events())
