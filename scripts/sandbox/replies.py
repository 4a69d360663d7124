"""The envelopes of the payment service's answers."""

from __future__ import annotations

from typing import Any

from aiohttp import web


def success(data: Any) -> web.Response:
    return web.json_response({"status": "success", "data": data})


def failure(status: int, message: str, **more: Any) -> web.Response:
    document = {"status": "error", "error": {"message": message}, **more}
    return web.json_response(document, status=status)
