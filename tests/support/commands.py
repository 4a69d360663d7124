"""``tollgate`` commands as processes, without half a second of imports for each."""

from __future__ import annotations

import atexit
import json
import os
import select
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from tests.support import warm

ROOT = Path(__file__).parents[2]
PATIENCE_S = 50.0


def tollgate(
    *arguments: str, environment: Mapping[str, str], directory: Path = ROOT
) -> subprocess.CompletedProcess[str]:
    """One command (not ``serve``) with this environment added to ours."""
    return _commands().run(arguments, {**os.environ, **environment}, directory)


class Commands:
    """A process that has imported all commands, and is forked for each; ends with ours."""

    def __init__(self) -> None:
        self._one_at_a_time = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        atexit.register(self._end)

    def run(
        self, arguments: tuple[str, ...], environment: dict[str, str], directory: Path
    ) -> subprocess.CompletedProcess[str]:
        with (
            self._one_at_a_time,
            tempfile.NamedTemporaryFile() as output,
            tempfile.NamedTemporaryFile() as errors,
        ):
            order = {
                "arguments": arguments,
                "environment": environment,
                "directory": str(directory),
                "output": output.name,
                "errors": errors.name,
            }
            try:
                code = self._order(json.dumps(order).encode() + b"\n")
            except BaseException:  # a command that hangs holds up those after it
                self._end()
                raise
            return subprocess.CompletedProcess(
                arguments, code, output.read().decode(), errors.read().decode()
            )

    def _order(self, line: bytes) -> int:
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, warm.__file__],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                bufsize=0,
                start_new_session=True,
            )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(line)
        if not select.select([self._process.stdout], [], [], PATIENCE_S)[0]:
            raise subprocess.TimeoutExpired(json.loads(line)["arguments"], PATIENCE_S)
        return int(self._process.stdout.readline())

    def end(self) -> None:
        with self._one_at_a_time:
            self._end()

    def _end(self) -> None:
        if self._process is not None:
            os.killpg(self._process.pid, 9)
            self._process.__exit__(None, None, None)
            self._process = None


def end() -> None:
    """Of the process behind them; the next command starts another."""
    if _commands.cache_info().currsize:
        _commands().end()


@cache
def _commands() -> Commands:
    return Commands()
