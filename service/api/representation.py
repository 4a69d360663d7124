"""JSON that is answered many times: its bytes, their tags and their codings made once.

For a client that has these very bytes there is a 304, in whichever coding it has them; what it
cannot read is not counted. With ``server.fast_answers`` head and body are written at once
(``rendered``); the plain way sends the same bytes.
"""

from __future__ import annotations

import gzip
from functools import cached_property

from aiohttp import hdrs, web
from pydantic import BaseModel

from service.api import answers, codings, keys
from service.api.rendered import Rendered, start_of

#: Smaller bodies fit into one packet as they are.
COMPRESSED_FROM_BYTES = 1024
#: Of ten thousand flows: level 6 is a fifth of the time of 9, and 2 % larger.
_LEVEL = 6
#: On answers that could not be read anew and are past their age (RFC 9211).
CACHE_STATUS = "Cache-Status"
DEGRADED = "tollgate; hit; detail=refresh-failed"


class Coded:
    """The bytes in one coding, with the fields that go with them."""

    def __init__(self, body: bytes, coding: str) -> None:
        self.body = body
        self.tag = answers.etag(body)
        #: Of the 304.
        self.fields: list[tuple[str, str]] = [
            (hdrs.CACHE_CONTROL, answers.REVALIDATE),
            ("ETag", self.tag),
            (hdrs.VARY, hdrs.ACCEPT_ENCODING),
        ]
        own = [(hdrs.CONTENT_TYPE, "application/json")]
        if coding != codings.IDENTITY:
            own.append((hdrs.CONTENT_ENCODING, coding))
        self.whole_fields = [*self.fields, *own]
        self.start = start_of(200, "OK", self.whole_fields)
        self.known_start = start_of(304, "Not Modified", self.fields)


class Representation:
    """One JSON document; the compressed form is made when it is first asked for."""

    def __init__(self, body: BaseModel | bytes) -> None:
        raw = body if isinstance(body, bytes) else answers.encode(body)
        self.plain = Coded(raw, codings.IDENTITY)

    @cached_property
    def gzipped(self) -> Coded:
        # mtime: the same bytes, and the same tag, from every worker.
        return Coded(gzip.compress(self.plain.body, _LEVEL, mtime=0), codings.GZIP)

    def choices(self, wanted: codings.Wanted) -> tuple[Coded, ...]:
        """What may be sent, the best first; short bodies are compressed only if they must be."""
        worth = len(self.plain.body) >= COMPRESSED_FROM_BYTES
        if not wanted.identity:
            return (self.gzipped,)
        if not wanted.gzip or not worth:
            return (self.plain,)
        return (self.gzipped, self.plain) if wanted.gzip_first else (self.plain, self.gzipped)


def answer(
    request: web.Request,
    found: Representation,
    *,
    age_s: float | None = None,
    degraded: bool = False,
) -> web.Response:
    """The document, or 304; ``age_s`` since it was read, where it was read from a cache."""
    headers = request.headers
    accepted = headers.get(hdrs.ACCEPT_ENCODING)
    if accepted is None:
        choices: tuple[Coded, ...] = (found.plain,)
    else:
        # Several lines mean the same as one.
        accepted = ", ".join(headers.getall(hdrs.ACCEPT_ENCODING))
        choices = found.choices(codings.wanted(accepted))
    lines = "" if age_s is None else f"Age: {int(age_s)}\r\n"
    if degraded:
        lines += f"{CACHE_STATUS}: {DEGRADED}\r\n"
    known = None
    if hdrs.IF_NONE_MATCH in headers:
        known = next((each for each in choices if answers.is_known(request, each.tag)), None)
    chosen = known or choices[0]
    if not request.app[keys.SERVER].fast_answers:
        if known:
            return _ordinary(304, chosen.fields, lines)
        return _ordinary(200, chosen.whole_fields, lines, chosen.body)
    rendered = (
        Rendered(304, chosen.known_start, b"")
        if known
        else Rendered(200, chosen.start, chosen.body)
    )
    rendered.tell(lines)
    return rendered


def _ordinary(
    status: int, fields: list[tuple[str, str]], lines: str, body: bytes | None = None
) -> web.Response:
    told = (line.partition(": ") for line in lines.split("\r\n") if line)
    headers = [*fields, *((name, value) for name, _, value in told)]
    return web.Response(status=status, body=body, headers=headers)
