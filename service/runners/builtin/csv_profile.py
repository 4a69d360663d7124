"""What is in a CSV text: rows, columns, types, gaps, ranges and the commonest values."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from service.runners.models import Done, Failed, RunOutcome, RunRequest

#: Beyond these a profile is no longer read by people.
MAX_COLUMNS = 50
_TOP_VALUES = 3
_CELL_CHARACTERS = 30
_DELIMITERS = {"comma": ",", "semicolon": ";", "tab": "\t", "pipe": "|"}
#: Lines looked at to find the delimiter.
_SAMPLE_LINES = 20

_NULLS = frozenset({"", "na", "n/a", "nan", "null", "none", "-"})
_BOOLEANS = frozenset({"true", "false", "yes", "no"})
# Fifteen digits are exact in a double; a longer one is an identifier, not a quantity.
_INTEGER = re.compile(r"[+-]?[0-9]{1,15}")
_NUMBER = re.compile(r"[+-]?[0-9]{1,15}(?:\.[0-9]{1,15})?(?:[eE][+-]?[0-9]{1,2})?")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


@dataclass(frozen=True, slots=True)
class Column:
    """One column's values, gaps included, as texts without outer space."""

    name: str
    values: tuple[str, ...]

    @property
    def present(self) -> list[str]:
        return [value for value in self.values if value.casefold() not in _NULLS]

    @property
    def kind(self) -> str:
        """The narrowest type that every present value has."""
        present = self.present
        if not present:
            return "empty"
        tests = (
            ("integer", lambda text: _INTEGER.fullmatch(text) is not None),
            ("number", lambda text: _NUMBER.fullmatch(text) is not None),
            ("boolean", lambda text: text.casefold() in _BOOLEANS),
            ("date", _is_date),
        )
        return next((kind for kind, test in tests if all(map(test, present))), "text")


def run(request: RunRequest) -> RunOutcome:
    text: str = request.inputs["csv"]
    asked = request.inputs.get("delimiter", "auto")
    delimiter = _DELIMITERS.get(asked) or _likely_delimiter(text)
    try:
        # strict: a quote that never closes would silently swallow the rest of the table.
        rows = [
            row
            for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
            if any(cell.strip() for cell in row)
        ]
    except csv.Error as error:
        return Failed("csv-unreadable", f"The text is not CSV: {error}.", False)
    if not rows:
        return Failed("csv-empty", "The text holds no row.", False)
    header = request.inputs.get("header", True)
    return Done(_report(rows, delimiter, header=header))


def _report(rows: list[list[str]], delimiter: str, *, header: bool) -> str:
    width = max(len(row) for row in rows)
    names = rows[0] if header else []
    body = rows[1:] if header else rows
    columns = [
        Column(
            (names[i].strip() if i < len(names) else "") or f"column {i + 1}",
            tuple(row[i].strip() if i < len(row) else "" for row in body),
        )
        for i in range(min(width, MAX_COLUMNS))
    ]
    ragged = sum(len(row) != len(rows[0]) for row in rows[1:])
    lines = [
        "# Profile",
        "",
        f"- Rows: {len(body)}",
        f"- Columns: {width}",
        f"- Delimiter: {_name(delimiter)}",
        f"- Rows of another width than the first: {ragged}",
        f"- Rows that repeat an earlier one: {len(body) - len({tuple(row) for row in body})}",
        "",
        "| column | type | nulls | distinct | min | max | mean | most frequent |",
        "|---|---|---|---|---|---|---|---|",
        *(_line(column) for column in columns),
    ]
    if width > MAX_COLUMNS:
        lines += ["", f"The first {MAX_COLUMNS} of {width} columns are shown."]
    return "\n".join(lines)


def _line(column: Column) -> str:
    present, kind = column.present, column.kind
    nulls = len(column.values) - len(present)
    share = f" ({100 * nulls / len(column.values):.1f} %)" if nulls else ""
    low, high, mean = _range(present, kind)
    # Equal counts: the value that came first, as Counter keeps the order.
    top = Counter(present).most_common(_TOP_VALUES)
    cells = (
        _cell(column.name),
        kind,
        f"{nulls}{share}",
        str(len(set(present))),
        low,
        high,
        mean,
        ", ".join(f"{_cell(value)} ({times})" for value, times in top),
    )
    return "| " + " | ".join(cells) + " |"


def _range(present: Sequence[str], kind: str) -> tuple[str, str, str]:
    if kind in ("integer", "number"):
        numbers = [float(text) for text in present]
        mean = sum(numbers) / len(numbers)
        return _number(min(numbers)), _number(max(numbers)), _number(mean)
    if kind == "date":
        return min(present), max(present), ""
    return "", "", ""


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) and abs(value) < 1e15 else f"{value:.6g}"


def _cell(text: str) -> str:
    """A text that cannot break out of its table cell, shortened."""
    flat = " ".join(text.split())
    short = flat if len(flat) <= _CELL_CHARACTERS else flat[: _CELL_CHARACTERS - 1] + "…"
    return short.replace("\\", "\\\\").replace("|", "\\|")


def _is_date(text: str) -> bool:
    if not _DATE.fullmatch(text):
        return False
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True


def _likely_delimiter(text: str) -> str:
    """The one that most first lines hold equally often; a comma if none does."""
    lines = [line for line in text[:100_000].splitlines() if line.strip()][:_SAMPLE_LINES]

    def score(delimiter: str) -> tuple[int, int]:
        count, lines_with_it = Counter(line.count(delimiter) for line in lines).most_common(1)[0]
        return (lines_with_it, count) if count else (0, 0)

    candidates = list(_DELIMITERS.values())
    return max(candidates, key=score) if lines else ","


def _name(delimiter: str) -> str:
    return next(name for name, sign in _DELIMITERS.items() if sign == delimiter)
