"""The yardstick: one aiohttp handler, nothing around it. Run as ``python -m scripts.bench.bare``.

The answer is as long as Tollgate's own ``/health``, and the event loop is the same.
"""

from __future__ import annotations

import sys

import uvloop
from aiohttp import web

from scripts.loopback import LOOPBACK

_ANSWER = {"status": "ok", "version": "0.1.0", "breaker": "closed"}


async def health(_request: web.Request) -> web.Response:
    return web.json_response(_ANSWER)


def main() -> None:
    app = web.Application()
    app.router.add_get("/health", health)
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
