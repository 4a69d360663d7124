"""Counting costs a request next to nothing, beside what a bare handler takes in the same run."""

from __future__ import annotations

import asyncio
import time

from aiohttp import web
from aiohttp.web_protocol import RequestHandler
from prometheus_client import CollectorRegistry

from service.metrics import HttpCounts

REQUESTS = 1000
ROUNDS = 7
MOST_OF_BARE = 0.15
REQUEST = b"GET /bare HTTP/1.1\r\nHost: localhost\r\n\r\n"


class Sink(asyncio.Transport):
    """Takes answers and counts them."""

    answered = 0

    def write(self, _data: object) -> None:
        self.answered += 1

    writelines = write

    def close(self) -> None:
        """Nothing is open."""

    def is_closing(self) -> bool:
        return False

    def get_extra_info(self, _name: str, default: object = None) -> object:
        return default


async def bare_s() -> float:
    """Processor time of aiohttp alone for one request: no socket, no client."""

    async def handler(_request: web.Request) -> web.Response:
        return web.Response(text="hello")

    app = web.Application()
    app.router.add_get("/bare", handler)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    assert runner.server is not None
    protocol: RequestHandler[web.Request] = runner.server()
    transport = Sink()
    protocol.connection_made(transport)
    began_s = time.process_time()
    for number in range(REQUESTS):
        protocol.data_received(REQUEST)
        while transport.answered <= number:
            await asyncio.sleep(0)
    took_s = time.process_time() - began_s
    protocol.connection_lost(None)
    await runner.cleanup()
    return took_s / REQUESTS


def counted_s(counts: HttpCounts) -> float:
    """What is done for one request, its share of handing over included."""
    route = counts.of("GET", "http", "/bare")
    began_s = time.process_time()
    for _ in range(REQUESTS):
        at_s = time.monotonic()
        route.begun += 1
        route.in_progress += 1
        route.ended(200, at_s)
        route.in_progress -= 1
    counts._hand_over()
    return (time.process_time() - began_s) / REQUESTS


async def test_counting_takes_a_small_part_of_a_bare_handlers_time() -> None:
    registry = CollectorRegistry()
    counts = HttpCounts(registry)
    ratios = [counted_s(counts) / await bare_s() for _ in range(ROUNDS)]
    # What others on the machine take makes single rounds worse, never better.
    assert min(ratios) < MOST_OF_BARE, ratios
