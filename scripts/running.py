"""What ``make run`` has up at the moment, for other commands of the same checkout."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from scripts.lock import LOCK, held

ROOT = Path(__file__).resolve().parents[1]
#: Data, logs and this note of all that ``make run`` starts.
RUN = ROOT / ".run"
_NOTE = "running.json"


@dataclass(frozen=True, slots=True)
class Running:
    """Addresses; the payment service's are None unless it is our sandbox."""

    url: str
    internal_url: str
    payment_url: str | None
    payment_api_key: str | None
    payment_network: str
    database_url: str | None = None
    redis_url: str | None = None
    #: Of the program that started all of it.
    pid: int = field(default_factory=os.getpid)


def read(run: Path = RUN) -> Running | None:
    if not held(run / LOCK):  # whoever left a note was killed
        return None
    with contextlib.suppress(FileNotFoundError):
        return Running(**json.loads((run / _NOTE).read_text()))
    return None


@contextlib.contextmanager
def noted(service: Running, run: Path = RUN) -> Iterator[None]:
    note = run / _NOTE
    note.unlink(missing_ok=True)
    note.touch(mode=0o600)  # it holds a key
    note.write_text(json.dumps(asdict(service)))
    try:
        yield
    finally:
        note.unlink(missing_ok=True)
