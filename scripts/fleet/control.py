"""How ``make fleet-restart`` and ``make fleet-stop`` reach the fleet of this checkout.

A socket in a private directory; the fleet's note says where, and what the fleet consists of. A word
goes in, with the settings that shall hold from then on; lines of progress come out, and the last
line is the outcome.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from scripts.lock import LOCK, held

RESTART, STOP = "restart", "stop"
DONE = "done"
#: Whoever calls has it ready.
_WORD_TIMEOUT_S = 1.0
_MOST_BYTES = 1_000_000
_NOTE = "fleet.json"


@dataclass(frozen=True, slots=True)
class Note:
    """``replicas``: public and internal address of each."""

    control: str
    replicas: Sequence[Mapping[str, str]]


def read(data: Path) -> Note | None:
    """None where no fleet runs."""
    if not held(data / LOCK):
        return None
    with contextlib.suppress(FileNotFoundError):
        return Note(**json.loads((data / _NOTE).read_text()))
    return None


class Call:
    """One that has come in; who called may have gone, which changes nothing."""

    def __init__(self, word: str, settings: Mapping[str, str], connection: socket.socket) -> None:
        self.word = word
        self.settings = settings
        self._connection = connection

    def tell(self, line: str) -> None:
        with contextlib.suppress(OSError):
            self._connection.sendall(line.encode() + b"\n")

    def close(self) -> None:
        self._connection.close()


class Control:
    """The fleet's end."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener

    def next_call(self, within_s: float) -> Call | None:
        self._listener.settimeout(within_s)
        try:
            connection, _ = self._listener.accept()
        except TimeoutError:
            return None
        connection.settimeout(_WORD_TIMEOUT_S)
        try:
            with connection.makefile("rb") as lines:
                asked = json.loads(lines.readline(_MOST_BYTES))
            word, settings = asked["word"], asked["settings"]
        except (OSError, ValueError, LookupError, TypeError):
            word, settings = "", {}
        if word in {RESTART, STOP}:
            return Call(word, settings, connection)
        connection.close()
        return None


@contextlib.contextmanager
def control(data: Path, replicas: Sequence[Mapping[str, str]]) -> Iterator[Control]:
    """Reachable, and noted in ``data``, while the block lasts."""
    # Not below ``data``: a socket's path may have 107 characters.
    private = Path(tempfile.mkdtemp(prefix="tollgate-fleet-"))
    note = data / _NOTE
    try:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(private / "control"))
            listener.listen()
            note.write_text(json.dumps(asdict(Note(str(private / "control"), list(replicas)))))
            yield Control(listener)
    finally:
        note.unlink(missing_ok=True)
        shutil.rmtree(private, ignore_errors=True)


def ask(note: Note, word: str, settings: Mapping[str, str]) -> Iterator[str]:
    """The lines of the answer, as they come. ``settings`` are variables, secrets among them."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(note.control)
        connection.sendall(json.dumps({"word": word, "settings": settings}).encode() + b"\n")
        with connection.makefile() as lines:
            for line in lines:
                yield line.rstrip("\n")
