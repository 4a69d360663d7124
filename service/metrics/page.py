"""``/metrics``: the page, and the hand-over that keeps the pages of the other workers fresh.

Where workers share a directory, any of them renders the page of all. That reads and adds every
series of every worker (some ten milliseconds), so it is done in a thread: requests go on meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any

from aiohttp import web
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, CollectorRegistry, Metric, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from service import shared_counts
from service.metrics.plain import HAND_OVER_INTERVAL_S, HandOver
from service.metrics.worker import WorkerCounts
from service.tasks import end

MULTIPROCESS_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"

Handler = Callable[..., Awaitable[Any]]


class AllWorkers(Collector):
    """What all workers of the replica have counted, those that have ended included."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def collect(self) -> Iterable[Metric]:
        families: Iterable[Metric] = shared_counts.read_all(
            self._directory, MultiProcessCollector.merge
        )
        return sorted(families, key=lambda family: family.name)


def page_handler(registry: CollectorRegistry) -> Handler:
    """The handler of ``/metrics``: all workers of the replica where they share a directory."""
    directory = os.environ.get(MULTIPROCESS_VARIABLE)
    shared = AllWorkers(Path(directory)) if directory else None
    hand_over = HandOver.of(registry)

    async def handler(_request: Any) -> web.Response:
        hand_over.now()
        if shared is None:  # no thread: collecting hands over, and nobody may count meanwhile
            body = generate_latest(registry)
        else:
            body = await asyncio.to_thread(generate_latest, shared)
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4})

    return handler


@contextlib.asynccontextmanager
async def handing_over(
    registry: CollectorRegistry, worker: WorkerCounts | None = None
) -> AsyncIterator[None]:
    """Hand over about once a second, and at the end what is left; ``worker`` hears of both."""
    hand_over = HandOver.of(registry)

    async def keep() -> None:
        while True:
            due_s = time.monotonic() + HAND_OVER_INTERVAL_S
            await asyncio.sleep(HAND_OVER_INTERVAL_S)
            if worker is not None:
                worker.late(time.monotonic() - due_s)
            hand_over.now()

    task = asyncio.create_task(keep(), name="metrics-hand-over")
    try:
        yield
    finally:
        await end(task)
        if worker is not None:
            worker.stopped()
        hand_over.now()
