"""What runs on this machine, as far as we may see it: /proc on Linux, ``ps`` elsewhere."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class Process:
    pid: int
    #: Name of the program file, at most 15 characters of it.
    program: str
    arguments: str
    #: None where it is not ours to see.
    directory: Path | None


def running() -> Iterator[Process]:
    """Every process but those that have ended and only wait to be reaped."""
    return _from_proc() if (_PROC / "self/stat").exists() else _from_ps()


def alive(pid: int) -> bool:
    """Also not a zombie: some containers' first process is slow to reap."""
    return any(process.pid == pid for process in running())


def _from_proc() -> Iterator[Process]:
    for entry in _PROC.glob("[0-9]*"):
        with contextlib.suppress(OSError):
            stat = (entry / "stat").read_text(errors="replace")
            if stat.rpartition(")")[2].split()[0] in "ZX":
                continue
            arguments = (entry / "cmdline").read_bytes().replace(b"\0", b" ")
            yield Process(
                int(entry.name),
                (entry / "comm").read_text(errors="replace").strip(),
                arguments.decode(errors="replace").strip(),
                _directory(entry),
            )


def _directory(entry: Path) -> Path | None:
    with contextlib.suppress(OSError):
        return (entry / "cwd").readlink()
    return None


def _from_ps() -> Iterator[Process]:
    table = subprocess.run(
        ["/bin/ps", "-A", "-ww", "-o", "pid=,state=,command="],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for line in table.splitlines():
        pid, state, arguments = line.split(None, 2)
        if not state.startswith("Z"):
            program = Path(arguments.split(" ", 1)[0]).name[:15]
            yield Process(int(pid), program, arguments, None)
