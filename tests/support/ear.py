"""Somebody who listens, and what they have heard so far."""

from __future__ import annotations

import asyncio

#: Far more than any recovery takes on a busy machine, far less than giving up.
PATIENCE_S = 30.0


class Ear:
    """What came on one channel, gaps included, in order."""

    def __init__(self, channel: str) -> None:
        self.channel = channel
        self.heard: list[str] = []

    def gap(self) -> None:
        self.heard.append("gap")

    async def until(self, *expected: str) -> None:
        """Wait for exactly this to have been heard so far."""
        async with asyncio.timeout(PATIENCE_S):
            while len(self.heard) < len(expected):
                await asyncio.sleep(0.002)
        assert self.heard == list(expected)

    async def until_heard(self, what: str, *, after: int) -> None:
        """Wait for this one, whatever else comes, behind the first so many."""
        async with asyncio.timeout(PATIENCE_S):
            while what not in self.heard[after:]:
                await asyncio.sleep(0.002)
