"""A server program of ours on a loopback port: start, stop, and every way to mistreat it."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Self

from scripts.account import ServersUnavailable, server_account
from scripts.kept import Kept, Order
from scripts.processes import running

LOOPBACK = "127.0.0.1"
#: A start takes a quarter of a second; recovery after a crash on a busy machine takes longer.
START_TIMEOUT_S = 60.0
#: For what a crash left running to end by itself.
GRACE_S = 4.0
#: Another program may take the port between our asking for a free one and the server's binding it;
#: and what a crash left may need a moment to go.
START_ATTEMPTS = 3
_PASSING = ("ddress already in use", "pre-existing shared memory block")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port


class LoopbackServer(ABC):
    """One server with its data in one directory, on 127.0.0.1.

    Every method blocks until what it says is true (milliseconds to a second), so call them from
    async code only in tests or through a thread. The port stays the same from the first start on:
    clients find a restarted server again. The server ends with this process, even on SIGKILL.
    """

    #: What the operator reads, and the name of the data's folder.
    name: str
    #: What the process table calls it.
    program: str
    #: From polite to firm; SIGKILL follows by itself.
    stop_signals: tuple[int, ...]

    def __init__(self, directory: Path, *, port: int | None = None) -> None:
        self.directory = directory.resolve()
        self.data = self.directory / "data"
        self.log = self.directory / "log"
        self.account = server_account()
        self._port = port
        self.kept: Kept | None = None

    def __repr__(self) -> str:
        state = f"pid {self.pid}, port {self._port}" if self.alive else "stopped"
        return f"<{type(self).__name__} {state}>"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    @abstractmethod
    def url(self) -> str:
        """Where clients connect; valid once started."""

    @property
    def port(self) -> int:
        if self._port is None:
            raise RuntimeError(f"{self.name} has not been started")
        return self._port

    @property
    def pid(self) -> int:
        """Process id of the server itself."""
        return self.kept.pid if self.kept else 0

    @property
    def alive(self) -> bool:
        return self.kept is not None and self.kept.alive

    def start(self) -> None:
        """Start and wait until it answers; heals what a crash left behind. Keeps existing data."""
        if self.alive:
            return
        self._make_directories()
        self.end_leftovers()
        self.prepare()
        fixed = self._port is not None
        for _ in range(START_ATTEMPTS):
            if not fixed:
                self.choose_ports()
            self._launch()
            if self._wait_until_answering():
                return
            if not self._passing_trouble():
                break
        raise ServersUnavailable(f"{self.name} did not start; its log says:\n{self._log_end()}")

    def stop(self) -> None:
        """In order: clients are disconnected, data is written. Harmless when not running."""
        if self.kept:
            self.kept.stop()

    def kill(self) -> None:
        """SIGKILL to the server and all its processes, as if the machine had lost them."""
        if self.kept:
            self.kept.kill()

    def suspend(self) -> None:
        """SIGSTOP: connections stay open, connecting still works, nothing answers."""
        if self.kept:
            self.kept.signal(signal.SIGSTOP)

    def resume(self) -> None:
        if self.kept:
            self.kept.signal(signal.SIGCONT)

    def restart(self) -> None:
        self.stop()
        self.start()

    def choose_ports(self) -> None:
        """Before each attempt of the first start."""
        self._port = free_port()

    def prepare(self) -> None:  # noqa: B027 (only some servers need it)
        """Whatever must be in the data directory before the program starts."""

    @abstractmethod
    def command(self) -> list[str]: ...

    @abstractmethod
    def answers(self) -> bool:
        """Whether a client is served now; never waits long."""

    def end_leftovers(self) -> None:
        """End processes a crash (of the keeper too) left working in our data directory."""
        deadline = time.monotonic() + START_TIMEOUT_S
        number = self.stop_signals[0]
        while left := self._leftovers():
            if time.monotonic() > deadline:
                raise ServersUnavailable(
                    f"{self.name}: processes {left} still use {self.data} and can not be ended."
                )
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)
                    os.kill(pid, number)
            _await_end(left, GRACE_S)
            number = signal.SIGKILL

    def _leftovers(self) -> list[int]:
        return [
            process.pid
            for process in running()
            if process.program == self.program
            # Where we may not see the directory, the command line names it (for the first process).
            and (process.directory == self.data or str(self.data) in process.arguments)
        ]

    def _make_directories(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        if not self.account.reaches(self.directory):
            raise ServersUnavailable(
                f"{self.directory} can not be reached by the account the servers run under."
            )
        self.data.mkdir(mode=0o700, exist_ok=True)
        self.account.own(self.data)

    def _launch(self) -> None:
        self._log_start = self.log.stat().st_size if self.log.exists() else 0
        self.kept = Kept(
            Order(
                command=self.command(),
                directory=self.data,
                environment=environment(),
                stop_signals=self.stop_signals,
                log=self.log,
                account=self.account,
            )
        )

    def _wait_until_answering(self) -> bool:
        deadline = time.monotonic() + START_TIMEOUT_S
        while self.alive and time.monotonic() < deadline:
            if self.answers():
                return True
            self.kept and self.kept.wait(0.02)
        self.stop()
        return False

    def _passing_trouble(self) -> bool:
        return any(text in self._log_end() for text in _PASSING)

    def _log_end(self) -> str:
        with contextlib.suppress(FileNotFoundError), self.log.open("rb") as log:
            log.seek(self._log_start)
            return log.read()[-2000:].decode(errors="replace")
        return "(nothing)"


def environment() -> dict[str, str]:
    """Nothing of the caller's: PG* and LC_* variables would change what the programs do."""
    return {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}


def _await_end(pids: list[int], limit_s: float) -> None:
    deadline = time.monotonic() + limit_s
    pause = threading.Event()
    while time.monotonic() < deadline and {p.pid for p in running()} & set(pids):
        pause.wait(0.05)
