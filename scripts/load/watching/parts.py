"""Processor time of all that a fleet on this machine consists of, by part.

A program is told by its command, so one that was started again counts at once for the part of the
one before it. /proc on Linux, ``ps`` elsewhere.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

PARTS: Final = ("workers", "masters", "nginx", "redis", "postgres", "sandbox")
_PROC: Final = Path("/proc")
_EXACT: Final = _PROC / "self/schedstat"
_KEEPER: Final = "/keeper.py"
#: In what a program was started with, or calls itself; the first that fits.
_SIGNS: Final = (
    ("-m service serve", "masters"),
    ("-m scripts.sandbox", "sandbox"),
    ("nginx", "nginx"),
    ("valkey-server", "redis"),
    ("redis-server", "redis"),
    ("postgres", "postgres"),
)


@dataclass(frozen=True, slots=True)
class Process:
    pid: int
    parent: int
    #: Tells it from a later one with the same number.
    began: str
    cpu_s: float
    command: str


class Parts:
    """Those below one program."""

    def __init__(self, root: int) -> None:
        self._root = root
        self._before: dict[tuple[int, str], float] | None = None
        self._used: dict[str, dict[tuple[int, str], float]] = {}

    def look(self) -> Mapping[str, float]:
        """Seconds since the first look, by part.

        Never less than before: who ended keeps what it had used when last seen.
        """
        members = list(sorted_out(table(), self._root))
        if self._before is None:
            self._before = {(one.pid, one.began): one.cpu_s for _, one in members}
        for part, one in members:
            key = (one.pid, one.began)
            # What began later has used nothing before.
            self._used.setdefault(part, {})[key] = one.cpu_s - self._before.get(key, 0.0)
        return {part: sum(used.values()) for part, used in self._used.items()}


def sorted_out(processes: Iterable[Process], root: int) -> Iterator[tuple[str, Process]]:
    """The members of all parts; what starts them, and stands between, is none."""
    children: dict[int, list[Process]] = {}
    for process in processes:
        children.setdefault(process.parent, []).append(process)
    waiting = [(child, "") for child in children.get(root, [])]
    for process, above in waiting:
        part = _part(process.command, above)
        if part:
            yield part, process
        waiting += [(child, part) for child in children.get(process.pid, [])]


def _part(command: str, above: str) -> str:
    if _KEEPER in command:
        return ""
    if above == "masters":  # forked by it, and so called the same
        return "workers"
    return above or next((part for sign, part in _SIGNS if sign in command), "")


def table() -> Iterator[Process]:
    """Every process of this machine."""
    return _from_proc() if (_PROC / "self/stat").exists() else _from_ps()


def _from_proc() -> Iterator[Process]:
    for name in os.listdir(_PROC):  # noqa: PTH208 (a tenth of the time)
        if name.isdigit():
            with contextlib.suppress(OSError):
                own = _PROC / name
                stat = (own / "stat").read_text(errors="replace")
                ran = (own / "schedstat").read_text() if _EXACT.exists() else ""
                yield read_stat(stat, ran, (own / "cmdline").read_bytes())


def read_stat(stat: str, ran: str, command: bytes) -> Process:
    """One line of /proc/<pid>/stat; the name in brackets may hold anything.

    ``ran`` is that of schedstat: nanoseconds where the other has ticks, but of the first thread
    alone, so it helps with those that have only one, PostgreSQL's backends.
    """
    pid, _, rest = stat.partition(" ")
    fields = rest.rpartition(")")[2].split()
    ticks = int(fields[11]) + int(fields[12])
    return Process(
        pid=int(pid),
        parent=int(fields[1]),
        began=fields[19],
        cpu_s=max(ticks / os.sysconf("SC_CLK_TCK"), int((ran or "0").split()[0]) / 1e9),
        command=command.replace(b"\0", b" ").decode(errors="replace"),
    )


def _from_ps() -> Iterator[Process]:
    columns = "pid=,ppid=,time=,lstart=,command="
    found = subprocess.run(
        ["/bin/ps", "-A", "-ww", "-o", columns],
        capture_output=True, text=True, check=True, env={"LC_ALL": "C"},
    )  # fmt: skip
    return map(read_ps, found.stdout.splitlines())


def read_ps(line: str) -> Process:
    """One line of ``ps``; a start is five words: Mon Nov 23 20:45:49 2026."""
    pid, parent, time, *began, command = line.split(None, 8)
    return Process(int(pid), int(parent), " ".join(began), _seconds(time), command)


def _seconds(time: str) -> float:
    """[[days-]hours:]minutes:seconds[.hundredths], by system."""
    days, _, clock = time.rpartition("-")
    total = 0.0
    for part in clock.split(":"):
        total = total * 60 + float(part)
    return total + 86_400 * int(days or 0)
