"""Waiting for what another process or task will do, without guessing how long it takes."""

from __future__ import annotations

import asyncio
import inspect
import threading
import time
from collections.abc import Callable
from typing import Any


def eventually(holds: Callable[[], object], *, within_s: float = 20.0, what: str = "") -> None:
    """Returns as soon as ``holds()`` is true; fails after a time no healthy run comes near."""
    deadline = time.monotonic() + within_s
    pause = threading.Event()
    while not holds():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within_s:g} s: {what or holds}")
        pause.wait(0.02)


async def until(probe: Callable[[], object], *, within_s: float = 40.0, what: str = "") -> Any:
    """As ``eventually``, while this loop's other tasks go on; ``probe`` may be a coroutine's.

    Returns what was found.
    """
    limit = asyncio.timeout(within_s)
    try:
        async with limit:
            while True:
                found = probe()
                if inspect.isawaitable(found):
                    found = await found
                if found:
                    return found
                await asyncio.sleep(0.005)
    except TimeoutError:
        if not limit.expired():
            raise  # one of the probe's own
        raise AssertionError(f"not within {within_s:g} s: {what or probe}") from None
