"""Where a run is measured."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path

from scripts.load.record import Machine

#: Whose versions change figures.
_PACKAGES = ("aiohttp", "aiopg", "gunicorn", "hiredis", "pydantic", "redis", "tollgate", "uvloop")


def machine() -> Machine:
    return Machine(
        cpu=_cpu(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else _cores(),
        memory_mib=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20,
        system=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        packages={name: version(name) for name in _PACKAGES},
    )


def _cores() -> int:
    return os.cpu_count() or 1


def _cpu() -> str:
    file = Path("/proc/cpuinfo")
    for line in file.read_text().splitlines() if file.exists() else ():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.processor() or platform.machine()
