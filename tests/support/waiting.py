"""Waiting for what another process will do, without guessing how long it takes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


def eventually(holds: Callable[[], object], *, within_s: float = 20.0, what: str = "") -> None:
    """Returns as soon as ``holds()`` is true; fails after a time no healthy run comes near."""
    deadline = time.monotonic() + within_s
    pause = threading.Event()
    while not holds():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within_s:g} s: {what or holds}")
        pause.wait(0.02)
