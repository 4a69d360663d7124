"""How long cheap routes take their clients, and how that compares between two moments."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

from tests.e2e.wire import Line, Reply

#: So that the clients are no load of their own.
PAUSE_S = 0.005


@dataclass(frozen=True, slots=True)
class Latency:
    """In seconds; or, compared, as multiples."""

    median: float
    p99: float

    def relative_to(self, other: Latency) -> Latency:
        return Latency(self.median / other.median, self.p99 / other.p99)


async def measured(lines: Sequence[Line], job: str, *, seconds: float) -> Latency:
    """Of routes with and without PostgreSQL, asked on every line at once."""
    paths = (f"/text-summary/status?job_id={job}", "/flows/text-summary", "/health")
    replies: list[Reply] = []
    until_s = time.monotonic() + seconds

    async def ask(line: Line) -> None:
        while time.monotonic() < until_s:
            for path in paths:
                reply = await line.get(path)
                assert reply.status == 200, reply
                replies.append(reply)
                await asyncio.sleep(PAUSE_S)

    await asyncio.gather(*(ask(line) for line in lines))
    return latency(replies)


def latency(replies: Sequence[Reply]) -> Latency:
    taken = sorted(reply.took_s for reply in replies)
    return Latency(statistics.median(taken), taken[len(taken) * 99 // 100])
