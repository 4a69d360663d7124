"""The interface described: the OpenAPI document, and Swagger UI from this service's own files."""

from __future__ import annotations

import re
from pathlib import Path

from aiohttp import hdrs, web
from aiohttp.abc import AbstractStreamWriter
from multidict import CIMultiDict

from service.api import answers, keys, representation

STATIC = Path(__file__).parent.parent / "static" / "swagger-ui"
#: Served by name, so that no path can lead elsewhere.
ASSETS = {
    "swagger-ui.css": "text/css",
    "swagger-ui-bundle.js": "text/javascript",
    "init.js": "text/javascript",
}
_ONE_RANGE = re.compile(r"bytes=([0-9]+-[0-9]*|-[0-9]+)", re.IGNORECASE)
#: Nothing from elsewhere, no inline script; Swagger UI sets styles on elements.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline';"
    " img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none';"
    " frame-ancestors 'none'"
)
#: Addresses are relative, so that the page works below any prefix.
PAGE = b"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Tollgate API</title>
<link rel="stylesheet" href="docs/swagger-ui.css">
</head>
<body>
<div id="swagger-ui"></div>
<script src="docs/swagger-ui-bundle.js"></script>
<script src="docs/init.js"></script>
</body>
</html>
"""


class _Asset(web.FileResponse):
    """A file, or one range of its bytes; where something else is asked for, all of it.

    aiohttp refuses other units and several ranges, which RFC 9110 (14.2) has passed over, and does
    not know the tags that ``If-Range`` may hold (13.1.5).
    """

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        asked = request.headers.get(hdrs.RANGE)
        if asked is not None and (
            not _ONE_RANGE.fullmatch(asked.strip())
            or (hdrs.IF_RANGE in request.headers and request.if_range is None)
        ):
            headers = CIMultiDict(request.headers)
            del headers[hdrs.RANGE]
            request = request.clone(headers=headers)
        return await super().prepare(request)


async def openapi(request: web.Request) -> web.StreamResponse:
    return representation.answer(request, request.app[keys.OPENAPI])


async def page(_request: web.Request) -> web.StreamResponse:
    headers = {"Content-Security-Policy": POLICY, hdrs.CACHE_CONTROL: answers.REVALIDATE}
    return web.Response(body=PAGE, content_type="text/html", charset="utf-8", headers=headers)


async def asset(request: web.Request) -> web.StreamResponse:
    name = request.match_info["asset"]
    if name not in ASSETS:
        raise web.HTTPNotFound
    headers = {
        hdrs.CONTENT_TYPE: ASSETS[name],
        hdrs.CACHE_CONTROL: "public, max-age=86400",
        "X-Content-Type-Options": "nosniff",
    }
    return _Asset(STATIC / name, headers=headers)
