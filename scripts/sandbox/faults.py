"""Faults on demand: what to do wrong, on which route, how often, before or after the work is done.

Ordered over ``POST /control/faults``. ``after`` is the interesting half: the payment exists, and
the caller is not told.
"""

from __future__ import annotations

import asyncio
import random
from typing import Annotated, Literal

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field

from scripts.sandbox.replies import failure

#: What a hanging answer waits for at most; long beside every client's patience.
HANG_S = 3600.0


class Fault(BaseModel):
    model_config = ConfigDict(extra="forbid")

    #: ``POST /payment``: method and path below /api/v1; ``*`` for all of them.
    route: str = "*"
    kind: Literal["latency", "hang", "reset", "status", "bad-json", "stale", "interrupt"]
    #: Whether the request takes effect first.
    when: Literal["before", "after"] = "before"
    #: How often; None until it is cleared.
    times: Annotated[int | None, Field(ge=1)] = None
    probability: Annotated[float, Field(gt=0, le=1)] = 1.0
    #: latency: added; stale: how far reads lag behind.
    seconds: Annotated[float, Field(ge=0)] = 1.0
    status: Annotated[int, Field(ge=300, le=599)] = 500
    retry_after: str | None = None

    def matches(self, route: str) -> bool:
        return self.route in {"*", route}


class Faults:
    def __init__(self) -> None:
        self.active: list[Fault] = []
        self.stopping = asyncio.Event()

    def add(self, fault: Fault) -> None:
        self.active.append(fault)

    def clear(self) -> None:
        self.active.clear()

    def take(self, route: str) -> list[Fault]:
        """The faults this request meets; each is used up by it."""
        met = [
            fault
            for fault in self.active
            if fault.matches(route) and random.random() < fault.probability  # noqa: S311 -- no secret
        ]
        for fault in met:
            if fault.times is not None:
                fault.times -= 1
        self.active = [fault for fault in self.active if fault.times != 0]
        return met

    async def act(self, fault: Fault, request: web.Request) -> web.Response | None:
        """Do the wrong thing; None where the request then goes on as if nothing were."""
        if fault.kind == "latency":
            await self._sleep(fault.seconds)
        elif fault.kind == "hang":
            await self._sleep(HANG_S)
            return _reset(request)
        elif fault.kind == "reset":
            return _reset(request)
        elif fault.kind == "status":
            response = failure(fault.status, "A fault was ordered")
            if fault.retry_after is not None:
                response.headers["Retry-After"] = fault.retry_after
            return response
        elif fault.kind == "bad-json":
            return web.Response(
                text='{"status":"success","data":{"id":', content_type="application/json"
            )
        return None

    async def _sleep(self, seconds: float) -> None:
        """Ends early when the sandbox stops."""
        try:
            async with asyncio.timeout(seconds):
                await self.stopping.wait()
        except TimeoutError:
            return


def _reset(request: web.Request) -> web.Response:
    """Cut the connection; the answer reaches nobody."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=500)
