"""The sandbox as an aiohttp application: routes, keys, faults, in that order round each request."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

from aiohttp import web

from scripts.sandbox import buyer, control, seller, wallet
from scripts.sandbox.keys import FAULTS, SANDBOX, Options, Sandbox
from scripts.sandbox.replies import failure
from scripts.sandbox.requests import Refusal

BASE = "/api/v1"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Route:
    method: str
    path: str
    handler: Handler
    #: What the key must allow: "none", "read" or "pay".
    right: str = "read"

    @property
    def name(self) -> str:
        """As faults and the books call it."""
        return f"{self.method} {self.path}"


ROUTES = (
    Route("GET", "/health", seller.health, "none"),
    Route("GET", "/api-key-status", seller.key_status),
    Route("GET", "/payment-source", seller.sources),
    Route("GET", "/registry/agent-identifier", seller.registered),
    Route("POST", "/payment", seller.create, "pay"),
    Route("GET", "/payment", seller.newest),
    Route("GET", "/payment/count", seller.count),
    *(Route("GET", path, seller.changed) for path in seller.FEEDS),
    Route("POST", "/payment/resolve-blockchain-identifier", seller.resolve),
    Route("POST", "/payment/submit-result", seller.submit_result, "pay"),
    Route("POST", "/payment/authorize-refund", seller.authorize_refund, "pay"),
    Route("POST", "/payment/error-state-recovery", seller.recover, "pay"),
    Route("POST", "/purchase", buyer.purchase, "pay"),
    Route("POST", "/purchase/request-refund", buyer.request_refund, "pay"),
    Route("POST", "/purchase/cancel-refund-request", buyer.cancel_refund, "pay"),
)


def create_app(options: Options) -> web.Application:
    app = web.Application(middlewares=[_refusals])
    app[SANDBOX] = Sandbox(options)
    for route in ROUTES:
        served = _served(route)
        for path in (BASE + route.path, BASE + route.path + "/"):
            app.router.add_route(route.method, path, served)
    app.router.add_get("/control/books", control.books)
    app.router.add_get("/control/calls", control.calls)
    app.router.add_post("/control/faults", control.add_fault)
    app.router.add_get("/control/faults", control.list_faults)
    app.router.add_delete("/control/faults", control.clear_faults)
    app.router.add_post("/control/payments/{payment}/{action}", control.act)
    app.router.add_post("/control/clock", control.advance_clock)
    app.router.add_post("/control/pace", control.set_pace)
    app.router.add_post("/control/agents", control.put_agent)
    wallet.setup(app)
    app.on_shutdown.append(_let_go)
    app.cleanup_ctx.append(_books_open)
    return app


def _served(route: Route) -> Handler:
    """The route with its faults and its key around it."""

    async def serve(request: web.Request) -> web.StreamResponse:
        sandbox = request.app[SANDBOX]
        with sandbox.noted(route.name):
            return await answer(request, sandbox)

    async def answer(request: web.Request, sandbox: Sandbox) -> web.StreamResponse:
        faults = sandbox.faults.take(route.name)
        request[FAULTS] = faults
        for fault in (f for f in faults if f.when == "before"):
            if (wrong := await sandbox.faults.act(fault, request)) is not None:
                return wrong
        await _check_key(sandbox, route, request)
        sandbox.ledger.settle()
        response = await route.handler(request)
        for fault in (f for f in faults if f.when == "after"):
            if (wrong := await sandbox.faults.act(fault, request)) is not None:
                return wrong
        return response

    return serve


async def _check_key(sandbox: Sandbox, route: Route, request: web.Request) -> None:
    """Every refusal is a 401: no key, a wrong one, or one without the right."""
    key = request.headers.get("token")
    right = {"none": True, "read": sandbox.may_read(key), "pay": sandbox.may_pay(key)}
    if not right[route.right]:
        delay_s = sandbox.options.refusal_delay_s
        if delay_s:
            await asyncio.sleep(random.uniform(0, delay_s))  # noqa: S311 -- no secret
        raise Refusal(401, "Unauthorized")


@web.middleware
async def _refusals(request: web.Request, handler: Handler) -> web.StreamResponse:
    if request.path.startswith("/control/"):
        request.app[SANDBOX].ledger.settle()
    try:
        return await handler(request)
    except Refusal as refusal:
        return failure(refusal.status, refusal.message, **refusal.more)
    except web.HTTPException as error:
        return failure(error.status, error.reason)


async def _let_go(app: web.Application) -> None:
    """Hanging answers end, so that stopping need not wait for them."""
    app[SANDBOX].faults.stopping.set()


async def _books_open(app: web.Application) -> AsyncIterator[None]:
    yield
    app[SANDBOX].ledger.close()
