"""What a session of tests has left running.

Everything it starts inherits a mark in its environment; servers, whose environment is clean, are
known by the directory they work in, which is below the session's own. That holds all temporary
files and goes with the session, whatever was killed before it could remove its own.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from pathlib import Path

from scripts.account import scratch
from scripts.processes import Process, running
from tests.support.waiting import eventually

_MARK = "TESTS_HOME"
#: What was told to stop may need this long on a busy machine.
_PATIENCE_S = 20.0


class Leftovers:
    """Made before anything is started; one for a session, in the process that began it."""

    def __init__(self) -> None:
        # Where pytest keeps the files of the last sessions: not ours to move or remove.
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", tempfile.gettempdir())
        self.home = scratch()
        os.environ[_MARK] = os.environ["TMPDIR"] = tempfile.tempdir = str(self.home)
        self.found: list[str] = []

    @staticmethod
    def looked_for() -> bool:
        """By this process, or by the one that started it."""
        return _MARK in os.environ

    def look(self) -> None:
        """Fills ``found`` with a line for each process, once patience is over."""
        with contextlib.suppress(AssertionError):
            eventually(lambda: not self._left(), within_s=_PATIENCE_S)
        self.found = [f"{process.pid}: {process.arguments}" for process in self._left()]

    def remove(self) -> None:
        shutil.rmtree(self.home, ignore_errors=True)

    def _left(self) -> list[Process]:
        return [
            process
            for process in running()
            if process.pid != os.getpid()
            and (self._inside(process.directory) or self._marked(process.pid))
        ]

    def _inside(self, directory: Path | None) -> bool:
        return directory is not None and directory.is_relative_to(self.home)

    def _marked(self, pid: int) -> bool:
        with contextlib.suppress(OSError):
            return f"{_MARK}={self.home}\0".encode() in Path(f"/proc/{pid}/environ").read_bytes()
        return False
