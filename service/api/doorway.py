"""Where requests find their handler, and none passes by the ``Way``.

Reason: an application without middlewares saves 1.7 µs a request (measured), but what is in no
route table would then see none of the steps: here it is led through them too. And many requests
name a path just as it stands in the table: found in one dict, without a walk over resources and
without parsing the address any further, 1.9 µs. Paths of flows are found so from their second time
on, 4 µs.

Leans on a private part of aiohttp 3.14: the router is put into ``Application._router``, as passing
one is deprecated. ``tests/api`` compares what it finds with what aiohttp's own finds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web
from aiohttp.typedefs import Handler
from aiohttp.web_urldispatcher import (
    AbstractRoute,
    MatchInfoError,
    PlainResource,
    UrlDispatcher,
    UrlMappingMatchInfo,
)

if TYPE_CHECKING:
    from service.api.middlewares.way import Way


#: Paths below a flow's name that are found again without a walk; a longer one always takes it.
MOST_KNOWN_PATHS = 2048
LONGEST_KNOWN_PATH = 200


class Doorway(UrlDispatcher):
    """aiohttp's router, with what it does not find led through ``way``."""

    def __init__(self, way: Way) -> None:
        super().__init__()
        self._way = way
        self._exact: dict[tuple[str, str], AbstractRoute] = {}
        self._walked: dict[tuple[str, str], tuple[AbstractRoute, dict[str, str]]] = {}

    @classmethod
    def open(cls, app: web.Application, way: Way) -> None:
        """Give ``app`` this router; it may have no routes yet."""
        app._router = cls(way)

    def freeze(self) -> None:
        super().freeze()
        for resource in self.resources():
            if isinstance(resource, PlainResource):
                for route in resource:
                    self._exact.setdefault((route.method, resource.canonical), route)

    async def resolve(self, request: web.Request) -> UrlMappingMatchInfo:
        # As received: an escaped path, or one with a query, takes the walk.
        asked = (request.method, request.raw_path)
        route = self._exact.get(asked)
        if route is not None:
            return UrlMappingMatchInfo({}, route)
        if (walked := self._walked.get(asked)) is not None:
            route, parts = walked
            return UrlMappingMatchInfo(parts, route)  # which copies them
        found = await super().resolve(request)
        if found.http_exception is not None:
            return _Unmatched(found.http_exception, self._way)
        if "?" not in asked[1] and len(asked[1]) <= LONGEST_KNOWN_PATH:
            if len(self._walked) >= MOST_KNOWN_PATHS:  # somebody asks for ever others
                self._walked.clear()
            self._walked[asked] = found.route, dict(found)
        return found


class _Unmatched(MatchInfoError):
    """No such address, or not with this method: the problem that says so, by way of all steps."""

    __slots__ = ("_way",)

    def __init__(self, error: web.HTTPException, way: Way) -> None:
        super().__init__(error)
        self._way = way

    @property
    def handler(self) -> Handler:
        return self._way.around_unmatched(super().handler)
