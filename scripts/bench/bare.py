"""The yardstick: an aiohttp handler, nothing around it. Run as ``python -m scripts.bench.bare``.

It answers what Tollgate answers: as much as its ``/health``, and at ``/document`` the one given on
the command line. The event loop is the same.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import uvloop
from aiohttp import web
from aiohttp.typedefs import Handler

from scripts.loopback import LOOPBACK

_ANSWER = {"status": "ok", "version": "0.1.0", "breaker": "closed"}


def answering(document: Any) -> Handler:
    async def answer(_request: web.Request) -> web.Response:
        return web.json_response(document)

    return answer


def main() -> None:
    app = web.Application()
    app.router.add_get("/health", answering(_ANSWER))
    app.router.add_get("/document", answering(json.loads(sys.argv[2])))
    # keepalive_timeout as in Tollgate's workers; no access lines: there is nobody to read them.
    web.run_app(
        app,
        host=LOOPBACK,
        port=int(sys.argv[1]),
        access_log=None,
        keepalive_timeout=75.0,
        print=None,
        loop=uvloop.new_event_loop(),
    )


if __name__ == "__main__":
    main()
