"""``/metrics``: the page, and the hand-over that keeps the pages of the other workers fresh."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from aiohttp_prometheus_exporter.handler import (
    metrics as exporter_page,
)
from prometheus_client import CollectorRegistry
from prometheus_client.multiprocess import MultiProcessCollector

from service.metrics.plain import HAND_OVER_INTERVAL_S, HandOver
from service.tasks import end

MULTIPROCESS_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"

Handler = Callable[..., Awaitable[Any]]


def page_handler(registry: CollectorRegistry) -> Handler:
    """The handler of ``/metrics``: all workers of the replica where they share a directory."""
    shown = registry
    if os.environ.get(MULTIPROCESS_VARIABLE):
        shown = CollectorRegistry()
        MultiProcessCollector(shown)  # type: ignore[no-untyped-call]
    page: Handler = exporter_page(registry=shown)
    hand_over = HandOver.of(registry)

    async def handler(request: Any) -> Any:
        hand_over.now()
        return await page(request)

    return handler


@contextlib.asynccontextmanager
async def handing_over(registry: CollectorRegistry) -> AsyncIterator[None]:
    """Hand over about once a second, and at the end what is left."""
    hand_over = HandOver.of(registry)

    async def keep() -> None:
        while True:
            await asyncio.sleep(HAND_OVER_INTERVAL_S)
            hand_over.now()

    task = asyncio.create_task(keep(), name="metrics-hand-over")
    try:
        yield
    finally:
        await end(task)
        hand_over.now()
