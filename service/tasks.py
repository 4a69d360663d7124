"""Background tasks: ending them for certain, and going on through every failure.

Before Python 3.12 ``asyncio.wait_for`` can swallow a cancellation that meets the end of what it
waits for (gh-86296), and libraries wait that way. A task that was cancelled once and is then
awaited may so go on for ever; one that is cancelled until it is done may not.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Generator
from typing import Any, NoReturn

import backoff

#: Between two cancellations: time for a task to tidy up after the first.
AGAIN_S = 1.0
_FIRST_PAUSE_S = 0.1


async def end(*tasks: asyncio.Task[Any]) -> None:
    """Cancel all of them until they are done; what they raise is theirs and not raised here."""
    left = {task for task in tasks if not task.done()}
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=AGAIN_S)
    for task in tasks:
        if not task.cancelled():
            task.exception()  # looked at, so that nobody complains that it was not


async def persist(
    session: Callable[[], Awaitable[None]],
    *,
    failed: Callable[[Exception], None],
    longest_pause_s: float,
) -> NoReturn:
    """``session`` again and again, whatever ends it: for connections that are to be there always.

    The pauses between grow, with jitter; a session that has lasted begins anew with short ones.
    """
    pauses = _pauses(longest_pause_s)
    while True:
        began_s = time.monotonic()
        try:
            await session()
        except Exception as error:  # noqa: BLE001 - giving up is the one thing it may not do
            failed(error)
        if time.monotonic() - began_s > longest_pause_s:
            pauses = _pauses(longest_pause_s)
        await asyncio.sleep(backoff.full_jitter(next(pauses)))


def _pauses(longest_s: float) -> Generator[float, None, None]:
    pauses: Generator[float, None, None] = backoff.expo(factor=_FIRST_PAUSE_S, max_value=longest_s)
    next(pauses)  # the library's generators give nothing the first time
    return pauses
