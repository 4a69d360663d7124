"""Waiting for what another process or task will do, without guessing how long it takes."""

from __future__ import annotations

import asyncio
import inspect
import threading
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar, cast

Found = TypeVar("Found")


def eventually(holds: Callable[[], object], *, within_s: float = 20.0, what: str = "") -> None:
    """Returns as soon as ``holds()`` is true; fails after a time no healthy run comes near."""
    deadline = time.monotonic() + within_s
    pause = threading.Event()
    while not holds():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within_s:g} s: {what or holds}")
        pause.wait(0.02)


async def until(
    probe: Callable[[], Found | Awaitable[Found]], *, within_s: float = 40.0, what: str = ""
) -> Found:
    """As ``eventually``, while this loop's other tasks go on; what was found first."""
    try:
        async with asyncio.timeout(within_s) as limit:
            while True:
                seen = probe()
                found = cast("Found", await seen if inspect.isawaitable(seen) else seen)
                if found:
                    return found
                await asyncio.sleep(0.005)
    except TimeoutError:
        if not limit.expired():
            raise
        raise AssertionError(f"not within {within_s:g} s: {what or probe}") from None
