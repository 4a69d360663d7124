"""The sandbox's memory across restarts: a JSON line per change; a payment's last line counts.

Appending is cheap and survives a kill; a line torn by one is passed over. On opening, the file is
replaced by what it amounts to, in one step.
"""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path

from scripts.sandbox.records import Record


class Journal:
    def __init__(self, path: Path) -> None:
        self._records = _read(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        compact = path.with_name(path.name + ".new")
        with compact.open("w", encoding="utf-8") as file:
            file.writelines(_line(record) for record in self._records.values())
            file.flush()
            os.fsync(file.fileno())
        compact.replace(path)
        self._file = path.open("a", encoding="utf-8")

    def records(self) -> list[Record]:
        return list(self._records.values())

    def write(self, record: Record) -> None:
        self._file.write(_line(record))
        self._file.flush()

    def close(self) -> None:
        self._file.close()


def _read(path: Path) -> dict[str, Record]:
    records: dict[str, Record] = {}
    if not path.exists():
        return records
    with path.open(encoding="utf-8") as file:
        for line in file:
            with contextlib.suppress(ValueError, TypeError, KeyError):
                record = Record.from_document(json.loads(line))
                records[record.id] = record
    return records


def _line(record: Record) -> str:
    return json.dumps(record.document(), separators=(",", ":")) + "\n"
