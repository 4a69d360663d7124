"""A request's span, round all steps of its way; stands there only while tracing is on.

What a doorman refuses (``service.api.doorman``) never becomes a request and has no span.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from aiohttp import web

from service.api import keys
from service.api.middlewares.context import CLIENT_GONE, known_method
from service.api.middlewares.way import Way
from service.tracing import Tracer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from aiohttp.typedefs import Handler, Middleware

    from service.api.middlewares.way import Stop
    from service.metrics import HttpCounts
    from service.tracing.spans import Value


class TracedWay(Way):
    """The fast way, with a span round it."""

    def __init__(self, counts: HttpCounts, tracer: Tracer) -> None:
        super().__init__(counts)
        self._tracer = tracer

    async def _serve(self, stop: Stop, request: web.Request) -> web.StreamResponse:
        serve = super()._serve
        return await _traced(self._tracer, request, stop.route, lambda: serve(stop, request))


def traced(tracer: Tracer) -> Middleware:
    """The same for the plain way: the outermost middleware."""

    @web.middleware
    async def around(request: web.Request, handler: Handler) -> web.StreamResponse:
        resource = request.match_info.route.resource
        route = resource.canonical if resource else None
        return await _traced(tracer, request, route, lambda: handler(request))

    return around


async def _traced(
    tracer: Tracer,
    request: web.Request,
    route: str | None,
    serve: Callable[[], Awaitable[web.StreamResponse]],
) -> web.StreamResponse:
    method = known_method(request)
    told: dict[str, Value] = {"http.request.method": method}
    if route is not None:
        told["http.route"] = route
    with tracer.request(f"{method} {route or 'unknown'}", request.headers, told) as span:
        status = 500
        try:
            response = await serve()
            status = response.status
            return response
        except asyncio.CancelledError:
            status = CLIENT_GONE
            raise
        finally:
            span.tell(_about(request, status))
            if status >= 500:
                span.fail(_code(request, status))


def _about(request: web.Request, status: int) -> Mapping[str, Value | None]:
    told: dict[str, Value | None] = {"http.response.status_code": status}
    record = request.get(keys.RECORD)
    if record is not None:
        told |= {
            "tollgate.request_id": record.request_id,
            "tollgate.policy": record.policy,
            "tollgate.flow": record.flow,
            "tollgate.job_id": record.job,
            "tollgate.problem": record.problem,
        }
    return told


def _code(request: web.Request, status: int) -> str:
    record = request.get(keys.RECORD)
    return record.problem if record is not None and record.problem else str(status)
