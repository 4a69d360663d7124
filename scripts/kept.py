"""A program that ends when this process does: started, watched and stopped through its keeper."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from scripts import keeper
from scripts.account import Account, ServersUnavailable


@dataclass(frozen=True, slots=True)
class Order:
    """What to run, as whom, and how to stop it."""

    command: Sequence[str]
    directory: Path
    environment: Mapping[str, str]
    #: From polite to firm; SIGKILL to all of it follows by itself.
    stop_signals: Sequence[int]
    #: How long each of them may take.
    grace_s: float = 4.0
    #: Where its output is added; None: to our own standard error.
    log: Path | None = None
    account: Account = field(default_factory=Account)


class Kept:
    """One running program; ended with all its descendants by ``stop``, ``kill`` or our own end."""

    def __init__(self, order: Order) -> None:
        text = {
            "command": list(order.command),
            "directory": str(order.directory),
            "environment": dict(order.environment),
            "signals": list(order.stop_signals),
            "grace_s": order.grace_s,
            "log": None if order.log is None else str(order.log),
            "account": order.account.popen(),
        }
        # A session of its own: Ctrl-C is for us alone, who stop everything in the right order.
        self._keeper = subprocess.Popen(
            [sys.executable, "-I", keeper.__file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        pipes = self._keeper
        assert pipes.stdin is not None  # noqa: S101 (asked for just above)
        assert pipes.stdout is not None  # noqa: S101
        # Not as an argument: the environment holds secrets, and everybody may read command lines.
        pipes.stdin.write(json.dumps(text).encode() + b"\n")
        pipes.stdin.flush()
        line = pipes.stdout.readline()
        if not line:
            self.stop()
            raise ServersUnavailable(f"{order.command[0]} could not be executed.")
        self.pid = int(line)

    @property
    def alive(self) -> bool:
        return self._keeper.poll() is None

    @property
    def exit_code(self) -> int | None:
        return self._keeper.poll()

    def wait(self, limit_s: float) -> bool:
        """Whether it has ended, after at most this long."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._keeper.wait(limit_s)
        return not self.alive

    def ask_to_stop(self) -> None:
        if self._keeper.stdin:
            self._keeper.stdin.close()

    def stop(self) -> None:
        """Returns when nothing of it is left. Harmless when it has ended."""
        self.ask_to_stop()
        self._keeper.__exit__(None, None, None)  # waits, and closes the other pipe

    def kill(self) -> None:
        self.signal(signal.SIGKILL)
        self.stop()

    def signal(self, number: int) -> None:
        """To the program and all its descendants."""
        if self.alive:
            keeper.signal_family(self.pid, number)
