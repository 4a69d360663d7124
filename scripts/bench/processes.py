"""What the kernel knows of a process: its CPU time, its memory, its cores. Linux only."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")
_TICK_S = 1 / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Cores:
    """Which cores serve and which ask; the same ones where there is only one."""

    serving: frozenset[int]
    asking: frozenset[int]

    @property
    def apart(self) -> bool:
        return self.serving != self.asking


def cores() -> Cores:
    """The first core for the worker that is measured, the others for everything else."""
    first, *others = sorted(os.sched_getaffinity(0))
    return Cores(frozenset({first}), frozenset(others or {first}))


@contextlib.contextmanager
def on(chosen: frozenset[int]) -> Iterator[None]:
    """We and all we start within run on these cores."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, chosen)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def move(pid: int, chosen: frozenset[int]) -> None:
    """A process with all its threads."""
    for thread in (_PROC / str(pid) / "task").iterdir():
        os.sched_setaffinity(int(thread.name), chosen)


def cpu_s(pid: int) -> float:
    """User and system time so far."""
    fields = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * _TICK_S


def resident_bytes(pid: int) -> int:
    pages = int((_PROC / str(pid) / "statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
