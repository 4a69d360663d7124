"""The payment service is told how long its answer is waited for."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from scripts.sandbox.replies import success
from service import deadline
from tests.support.payments import GatewayFactory
from tests.support.sandbox import served


@asynccontextmanager
async def listening(seen: list[int]) -> AsyncIterator[str]:
    async def answer(request: web.Request) -> web.StreamResponse:
        seen.append(int(request.headers[deadline.HEADER]))
        document: dict[str, Any] = {"status": "Active", "canRead": True, "canPay": True}
        return success(document)

    app = web.Application()
    app.router.add_get("/api/v1/api-key-status", answer)
    async with served(app) as url:
        yield url


async def test_a_loop_grants_a_whole_attempt(make_gateway: GatewayFactory) -> None:
    seen: list[int] = []
    async with listening(seen) as url:
        await (await make_gateway(url, attempt_timeout=6.0)).check_key()
    assert seen == [6000]


async def test_a_request_grants_what_it_has_left(make_gateway: GatewayFactory) -> None:
    seen: list[int] = []
    async with listening(seen) as url:
        gateway = await make_gateway(url, attempt_timeout=8.0)
        with deadline.within(5.0):
            await gateway.check_key()
    assert 2000 < seen[0] <= 4000  # one second is kept for our own answer
