"""What ``make run`` has up at the moment, for other commands of the same checkout."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from scripts.lock import LOCK, held
from service.settings import PREFIX
from service.settings.secret_files import SUFFIX

ROOT = Path(__file__).resolve().parents[1]
#: Data, logs and this note of all that ``make run`` starts.
RUN = ROOT / ".run"
_NOTE = "running.json"
#: The ``tollgate`` command for what is up, beside the note.
COMMAND = "tollgate"


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
    note, command = run / _NOTE, run / COMMAND
    # Both hold passwords.
    _write(command, _script(service), mode=0o700)
    _write(note, json.dumps(asdict(service)), mode=0o600)
    try:
        yield
    finally:
        note.unlink(missing_ok=True)
        command.unlink(missing_ok=True)


def _write(file: Path, text: str, *, mode: int) -> None:
    """Whole or not at all: others look for it while it is written."""
    new = file.with_name(f"{file.name}.new")
    new.unlink(missing_ok=True)
    new.touch(mode=mode)
    new.write_text(text)
    new.replace(file)


def _script(service: Running) -> str:
    """``tollgate`` with these servers; those that the caller's shell names come before them."""
    servers = {
        "DATABASE__URL": service.database_url,
        "REDIS__URL": service.redis_url,
        "PAYMENT__URL": service.payment_url,
        "PAYMENT__API_KEY": service.payment_api_key,
    }
    given = [
        f'[ -n "${{{name}-}}${{{name}{SUFFIX}-}}" ] || export {name}={shlex.quote(value)}'
        for name, value in ((f"{PREFIX}{short}", value) for short, value in servers.items())
        if value
    ]
    program = f'exec {shlex.quote(sys.executable)} -m service "$@"'
    return "\n".join(("#!/bin/sh", *given, program, ""))
