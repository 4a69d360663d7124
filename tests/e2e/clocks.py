"""Processes whose wall clock is wrong: with libfaketime where it is installed, else in Python.

libfaketime also turns the clock of ``datetime`` and of C code, but under it Python's ``time.sleep``
fails (0.9.10, its monotonic clock left alone), which gunicorn's master needs.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

#: Debian's package libfaketime; LIBFAKETIME names another place.
_LIBRARIES = tuple(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
_SKEW = Path(__file__).with_name("skew")


def skewed(seconds: int, *, path: Path, sleeps: bool = False) -> dict[str, str]:
    """Environment of a Python program (PYTHONPATH: ``path``) that is this far ahead.

    ``sleeps``: it calls ``time.sleep``. Fails where the clock of such a program is not off, so
    that no test passes by its absence.
    """
    named = os.environ.get("LIBFAKETIME")
    library = Path(named) if named else next(iter(_LIBRARIES), None)
    if library and not sleeps:
        environment = {
            "LD_PRELOAD": str(library),
            "FAKETIME": f"{seconds:+d}s",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "PYTHONPATH": str(path),
        }
    else:
        environment = {"CLOCK_SKEW_S": str(seconds), "PYTHONPATH": f"{_SKEW}{os.pathsep}{path}"}
    before_s, monotonic_before_s = time.time(), time.monotonic()
    told = subprocess.run(
        [sys.executable, "-c", "import time; print(time.time(), time.monotonic())"],
        env={**os.environ, **environment}, capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    at_s, monotonic_at_s = float(told[0]) - seconds, float(told[1])
    assert before_s - 1 < at_s < time.time() + 1, f"the clock is not {seconds} s off"
    assert monotonic_before_s - 1 < monotonic_at_s < time.monotonic() + 1
    return environment
