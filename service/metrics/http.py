"""HTTP counted under the exporter's own metrics, at a tenth of its cost, and what it leaves out.

Reason: the exporter's middleware takes 34 µs of a request (measured, workers sharing a directory),
as much as the whole bare handler, and needs a ``request.clone()`` (15 µs) to keep client addresses
out of its labels. ``HttpCounts`` keeps plain numbers (``plain``) for each method, scheme and route:
0.5 µs. The collectors are
the very ones the exporter declares, so names, labels, buckets and texts are its own. The plain way
is ``http_middleware`` (setting ``server.fast_answers``).

Beside them: ``tollgate_request_seconds``, whose buckets begin where our answers are, read off the
same numbers when they are handed over; requests that ended without an answer, which the exporter
begins to count and then forgets, as status 499; and clients that did not wait for theirs.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from typing import Any, cast

from aiohttp import web
from aiohttp_prometheus_exporter.middleware import prometheus_middleware_factory
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from service.metrics.plain import HandOver, Spread

#: The exporter's own bounds, finer below 5 ms, and the end of a request's time.
REQUEST_BUCKETS_S = (
    *(0.0005, 0.001, 0.0025),
    *Histogram.DEFAULT_BUCKETS[:-1],
    30.0,
)
#: No answer: it was given up while the work went on (nginx's convention).
CLIENT_GONE = 499
#: One value for all clients: their addresses would each become a series.
REMOTE = "-"
#: The exporter's label for what is in no route table.
NOT_MATCHED = "__not_matched__"

Middleware = Callable[..., Awaitable[Any]]


def http_middleware(registry: CollectorRegistry) -> Middleware:
    """The exporter's middleware; it labels by ``remote``, so that must be one constant.

    That is ``handler(request.clone(remote="-"))`` in the middleware outside it; otherwise every
    client address becomes a series of its own.
    """
    middleware: Middleware = prometheus_middleware_factory(registry=registry)
    # As declared it shows a series for each process, and keeps those of the dead.
    in_progress = cast(Gauge, registry._names_to_collectors["aiohttp_requests_in_progress"])
    in_progress._multiprocess_mode = in_progress._kwargs["multiprocess_mode"] = "livesum"
    Histogram(
        "tollgate_request_seconds",
        "Time from the request's arrival until its answer was made, by route and class of answer"
        " (2xx to 5xx), in seconds.",
        ("route", "answer"),
        registry=registry,
        buckets=REQUEST_BUCKETS_S,
    )
    Counter(
        "tollgate_requests_abandoned",
        "Requests whose client had gone before the answer was made, by route.",
        ("route",),
        registry=registry,
    )
    return _completed(middleware, _Exported(registry))


def _completed(exporter: Middleware, exported: _Exported) -> Middleware:
    """The exporter's middleware and what it leaves out."""

    @web.middleware
    async def counted(request: web.Request, handler: Any) -> Any:
        began_s = time.monotonic()
        resource = request.match_info.route.resource
        route = resource.canonical if resource else NOT_MATCHED
        gone, status = True, CLIENT_GONE
        try:
            response = await exporter(request, handler)
            gone, status = request.transport is None, response.status
            return response
        except asyncio.CancelledError:
            labels = request.method, request.scheme, request.remote, route, str(status)
            exported.responses.labels(*labels).inc()
            exported.duration.labels(*labels).observe(time.monotonic() - began_s)
            raise
        except Exception as error:
            gone, status = False, getattr(error, "status", 500)
            raise
        finally:
            exported.seconds_of(route, status).observe(time.monotonic() - began_s)
            if gone:
                exported.abandoned.labels(route).inc()

    return counted


class HttpCounts:
    """The exporter's five metrics of one registry, as plain numbers."""

    def __init__(self, registry: CollectorRegistry) -> None:
        HandOver.of(registry).add(self._hand_over)
        http_middleware(registry)
        self._exported = _Exported(registry)
        self._routes: dict[tuple[str, str, str], RouteCounts] = {}

    def of(self, method: str, scheme: str, path_template: str) -> RouteCounts:
        """The numbers of one route; all three come from closed sets."""
        key = (method, scheme, path_template)
        counts = self._routes.get(key)
        if counts is None:
            counts = self._routes[key] = RouteCounts(self._exported, key)
        return counts

    def _hand_over(self) -> None:
        for counts in self._routes.values():
            counts.hand_over()


class RouteCounts:
    """The requests of one method to one route; the caller keeps the numbers that are public."""

    __slots__ = (
        *("_ended", "_exceptions", "_exported", "_labels"),
        *("abandoned", "begun", "in_progress"),
    )

    def __init__(self, exported: _Exported, key: tuple[str, str, str]) -> None:
        method, scheme, path_template = key
        self._exported = exported
        self._labels = (method, scheme, REMOTE, path_template)
        self._ended: dict[int, _Ended] = {}
        self._exceptions: defaultdict[str, int] = defaultdict(int)
        self.begun = 0
        self.in_progress = 0
        #: Whose clients had gone when the answer was made.
        self.abandoned = 0

    def ended(self, status: int, began_s: float) -> None:
        """One more answer with this status, to a request that began then (monotonic)."""
        ended = self._ended.get(status)
        if ended is None:
            ended = self._ended[status] = _Ended(self._exported, (*self._labels, str(status)))
        ended.number += 1
        ended.seconds.observe(time.monotonic() - began_s)

    def cancelled(self, began_s: float) -> None:
        """One more that was given up, its client gone, and had no answer."""
        self.ended(CLIENT_GONE, began_s)
        self.abandoned += 1

    def failed(self, error: Exception, status: int, began_s: float) -> None:
        """One more exception that no step made an answer of."""
        self.ended(status, began_s)
        self._exceptions[type(error).__name__] += 1

    def hand_over(self) -> None:
        labels, exported = self._labels, self._exported
        exported.requests.labels(*labels).inc(self.begun)
        self.begun = 0
        exported.in_progress.labels(*labels).set(self.in_progress)
        if self.abandoned:
            exported.abandoned.labels(labels[-1]).inc(self.abandoned)
            self.abandoned = 0
        for ended in self._ended.values():
            ended.hand_over()
        for name, number in self._exceptions.items():
            exported.exceptions.labels(*labels, name).inc(number)
        self._exceptions.clear()


class _Ended:
    """The answers of one route with one status."""

    __slots__ = ("_responses", "number", "seconds")

    def __init__(self, exported: _Exported, labels: tuple[str, ...]) -> None:
        route, status = labels[-2:]
        self._responses = exported.responses.labels(*labels)
        self.seconds = Spread(
            exported.seconds_of(route, int(status)), coarser=exported.duration.labels(*labels)
        )
        self.number = 0

    def hand_over(self) -> None:
        if self.number:
            self._responses.inc(self.number)
            self.number = 0
            self.seconds.hand_over()


class _Exported:
    """What the exporter and ``http_middleware`` have declared, by their names in the registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        named = registry._names_to_collectors
        self.requests = cast(Counter, named["aiohttp_requests"])
        self.responses = cast(Counter, named["aiohttp_responses"])
        self.duration = cast(Histogram, named["aiohttp_request_duration_seconds"])
        self.in_progress = cast(Gauge, named["aiohttp_requests_in_progress"])
        self.exceptions = cast(Counter, named["aiohttp_exceptions"])
        self.abandoned = cast(Counter, named["tollgate_requests_abandoned"])
        self._seconds = cast(Histogram, named["tollgate_request_seconds"])

    def seconds_of(self, route: str, status: int) -> Histogram:
        return self._seconds.labels(route, f"{status // 100}xx")
