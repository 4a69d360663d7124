"""What the database package hands out: frozen values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

#: One row, by column name; json, uuid and timestamptz (in UTC) are already Python's own.
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class PoolStatus:
    """How many connections one worker holds, at one moment."""

    #: Open or being opened.
    size: int
    free: int
    used: int
    #: Callers waiting for a connection.
    waiting: int
    minimum: int
    maximum: int
    #: The same by lane: requests, reads, loops.
    used_by: Mapping[str, int]
    waiting_by: Mapping[str, int]
