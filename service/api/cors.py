"""Pages of other origins may call this service and read what it says of limits.

Off unless ``server.cors_origins`` names origins. Answers then carry the fields a browser asks for,
refusals too; preflights are answered by a route of their own, counted against no one: a browser
sends them unasked. Credentials are not allowed: who has an API key sends it as a field.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler

from service.api.rendered import Rendered

ANY = "*"
#: What a page may read beyond what every page may.
EXPOSED = (
    "Accept-Encoding, Age, Cache-Status, ETag, Idempotent-Replayed, RateLimit, RateLimit-Policy,"
    " Retry-After, X-Request-Id"
)
#: What a page may send.
ACCEPTED = (
    "Authorization, Content-Encoding, Content-Type, Idempotency-Key, If-None-Match, Traceparent,"
    " Tracestate, X-API-Key, X-Request-Id, X-Request-Timeout-Ms"
)
#: How long a browser may remember a preflight (their own limits are no higher than 2 h).
MAX_AGE_S = 3600
_VARY_LINE = f"{hdrs.VARY}: {hdrs.ORIGIN}\r\n"


class Cors:
    """What holds for pages of these origins; ``*`` for all."""

    def __init__(self, origins: Sequence[str]) -> None:
        self._origins = frozenset(origins)

    def preflight(self, methods: Sequence[str]) -> Handler:
        """The handler of OPTIONS for an address that takes these methods."""
        allowed = ", ".join(methods)
        fields = {
            hdrs.ALLOW: allowed,
            hdrs.ACCESS_CONTROL_ALLOW_METHODS: allowed,
            hdrs.ACCESS_CONTROL_ALLOW_HEADERS: ACCEPTED,
            hdrs.ACCESS_CONTROL_MAX_AGE: str(MAX_AGE_S),
        }

        async def options(_request: web.Request) -> web.StreamResponse:
            return web.Response(status=204, headers=fields)

        return options

    def lines_for(self, headers: Mapping[str, str]) -> str | None:
        """What is added to the answer of who is no page (``doorman``); None: it is a page."""
        if hdrs.ORIGIN in headers:
            return None
        return "" if ANY in self._origins else _VARY_LINE  # a cache may give it to a page later

    async def __call__(self, request: web.Request, answer: web.StreamResponse) -> None:
        """Say on an answer who may read it; a signal (``on_response_prepare``)."""
        if type(answer) is Rendered and (lines := self.lines_for(request.headers)) is not None:
            answer.tell(lines)
            return
        origin = request.headers.get(hdrs.ORIGIN)
        if ANY not in self._origins:
            answer.headers.add(hdrs.VARY, hdrs.ORIGIN)
        if origin is None or not self._origins & {ANY, origin}:
            return
        allowed = ANY if ANY in self._origins else origin
        answer.headers[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] = allowed
        answer.headers[hdrs.ACCESS_CONTROL_EXPOSE_HEADERS] = EXPOSED
