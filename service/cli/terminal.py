"""What people see: results on stdout, everything else on stderr."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from datetime import datetime


def show(*lines: str) -> None:
    """Results, line by line."""
    sys.stdout.writelines(f"{_visible(line)}\n" for line in lines)


def complain(message: str) -> None:
    """What went wrong, a line each."""
    sys.stdout.flush()
    sys.stderr.writelines(f"tollgate: {_visible(line)}\n" for line in message.splitlines())
    sys.stderr.flush()


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Columns as wide as they must be."""
    lines = [tuple(heads), *(tuple(row) for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(heads))]
    for line in lines:
        show(
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        )


def moment(at: datetime) -> str:
    """A time as people compare it with others: UTC, to the millisecond."""
    return at.strftime("%Y-%m-%d %H:%M:%S.") + f"{at.microsecond // 1000:03}Z"


def _visible(text: str) -> str:
    """Names and results come from others: none may steer the terminal."""
    return "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in text)
