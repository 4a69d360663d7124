"""HTTP counted under the exporter's own metrics, at a tenth of its cost.

Reason: the exporter's middleware takes 34 µs of a request (measured, workers sharing a directory),
as much as the whole bare handler, and needs a ``request.clone()`` (15 µs) to keep client addresses
out of its labels. ``HttpCounts`` keeps plain numbers (``plain``) for each method, scheme and route:
0.5 µs. The collectors are
the very ones the exporter declares, so names, labels, buckets and texts are its own. The plain way
is ``http_middleware`` (setting ``server.fast_answers``).
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from typing import Any, cast

from aiohttp_prometheus_exporter.middleware import prometheus_middleware_factory
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from service.metrics.plain import HandOver, Spread

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
    in_progress = _Exported(registry).in_progress
    in_progress._multiprocess_mode = in_progress._kwargs["multiprocess_mode"] = "livesum"
    return middleware


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
    """The requests of one method to one route; the caller keeps ``begun`` and ``in_progress``."""

    __slots__ = ("_ended", "_exceptions", "_exported", "_labels", "begun", "in_progress")

    def __init__(self, exported: _Exported, key: tuple[str, str, str]) -> None:
        method, scheme, path_template = key
        self._exported = exported
        self._labels = (method, scheme, REMOTE, path_template)
        self._ended: dict[int, _Ended] = {}
        self._exceptions: defaultdict[str, int] = defaultdict(int)
        self.begun = 0
        self.in_progress = 0

    def ended(self, status: int, began_s: float) -> None:
        """One more answer with this status, to a request that began then (monotonic)."""
        ended = self._ended.get(status)
        if ended is None:
            ended = self._ended[status] = _Ended(self._exported, (*self._labels, str(status)))
        ended.number += 1
        ended.seconds.observe(time.monotonic() - began_s)

    def failed(self, error: Exception, status: int, began_s: float) -> None:
        """One more exception that no step made an answer of."""
        self.ended(status, began_s)
        self._exceptions[type(error).__name__] += 1

    def hand_over(self) -> None:
        labels, exported = self._labels, self._exported
        exported.requests.labels(*labels).inc(self.begun)
        self.begun = 0
        exported.in_progress.labels(*labels).set(self.in_progress)
        for ended in self._ended.values():
            ended.hand_over()
        for name, number in self._exceptions.items():
            exported.exceptions.labels(*labels, name).inc(number)
        self._exceptions.clear()


class _Ended:
    """The answers of one route with one status."""

    __slots__ = ("_responses", "number", "seconds")

    def __init__(self, exported: _Exported, labels: tuple[str, ...]) -> None:
        self._responses = exported.responses.labels(*labels)
        self.seconds = Spread(exported.duration.labels(*labels))
        self.number = 0

    def hand_over(self) -> None:
        if self.number:
            self._responses.inc(self.number)
            self.number = 0
            self.seconds.hand_over()


class _Exported:
    """The collectors the exporter has declared, by their names in the registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        named = registry._names_to_collectors
        self.requests = cast(Counter, named["aiohttp_requests"])
        self.responses = cast(Counter, named["aiohttp_responses"])
        self.duration = cast(Histogram, named["aiohttp_request_duration_seconds"])
        self.in_progress = cast(Gauge, named["aiohttp_requests_in_progress"])
        self.exceptions = cast(Counter, named["aiohttp_exceptions"])
