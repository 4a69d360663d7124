"""Ending background tasks for certain.

Before Python 3.12 ``asyncio.wait_for`` can swallow a cancellation that meets the end of what it
waits for (gh-86296), and libraries wait that way. A task that was cancelled once and is then
awaited may so go on for ever; one that is cancelled until it is done may not.
"""

from __future__ import annotations

import asyncio
from typing import Any

#: Between two cancellations: time for a task to tidy up after the first.
AGAIN_S = 1.0


async def end(*tasks: asyncio.Task[Any]) -> None:
    """Cancel all of them until they are done; what they raise is theirs and not raised here."""
    left = {task for task in tasks if not task.done()}
    while left:
        for task in left:
            task.cancel()
        done, left = await asyncio.wait(left, timeout=AGAIN_S)
        for task in done:
            if not task.cancelled():
                task.exception()  # looked at, so that nobody complains that it was not
