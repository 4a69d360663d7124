"""``/ops``: the page for operators, what it reads, and what can be done there.

The page itself holds no data, so it is sent to anybody on the internal listener where operations
are on at all; everything it then asks for is guarded (``access``).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from html import escape
from pathlib import Path
from string import Template
from typing import Any, TypeVar

from aiohttp import web
from aiohttp.typedefs import Handler
from pydantic import BaseModel

import service
from service.api import access, answers, keys, ops_views, page_files, problems
from service.api.json_body import read_object
from service.api.schemas import parse

_STATIC = Path(__file__).parent.parent / "static"
STATIC = _STATIC / "ops"
#: Made for the other page, and used by both.
SHARED = (_STATIC / "shop" / "dom.js", _STATIC / "shop" / "icon.svg")
BASE = "/ops"
#: An order is a few short texts.
MOST_ORDER_BYTES = 4096

OrderModel = TypeVar("OrderModel", bound=ops_views.Order)


class OpsPage:
    """Read and filled in once."""

    def __init__(self) -> None:
        self.assets = page_files.Assets([*STATIC.iterdir(), *SHARED])
        version = self.assets.version
        filled = Template((STATIC / "page.html").read_text(encoding="utf-8")).substitute(
            version=version,
            service=escape(service.__version__),
            modules="\n".join(
                f'<link rel="modulepreload" href="ops/{version}/{name}">'
                for name in self.assets.modules
            ),
        )
        self.page = page_files.files(filled.encode(), "text/html")
        self.policy = page_files.POLICY.format(connect="'self'")


async def page(request: web.Request) -> web.StreamResponse:
    guard = request.app[keys.ACCESS]
    if not guard.has_token and not guard.free(request):
        return web.Response(status=403, text=f"{access.OFF}\n")
    found = request.app[keys.OPS_PAGE]
    return page_files.page_answer(request, found.page, policy=found.policy)


async def asset(request: web.Request) -> web.StreamResponse:
    return request.app[keys.OPS_PAGE].assets.answer(request)


def guarded(handler: Callable[[web.Request], Awaitable[BaseModel]]) -> Handler:
    """A JSON answer for those who may have it, and for nobody else."""

    async def serve(request: web.Request) -> web.StreamResponse:
        refused = request.app[keys.ACCESS].refusal(request)
        if refused is not None:
            record = request[keys.RECORD]
            record.problem, record.detail = refused.code, refused.detail
            return problems.render(refused, request_id=record.request_id)
        body = (await handler(request)).model_dump_json().encode()
        return answers.answer(body)

    return serve


@guarded
async def now(request: web.Request) -> BaseModel:
    return await request.app[keys.DESK].now()


@guarded
async def past(request: web.Request) -> BaseModel:
    return await request.app[keys.DESK].past()


@guarded
async def jobs(request: web.Request) -> BaseModel:
    return await request.app[keys.DESK].jobs(request.query.get("state"))


@guarded
async def job(request: web.Request) -> BaseModel:
    return await request.app[keys.DESK].job(request.match_info["job"])


@guarded
async def principal(request: web.Request) -> BaseModel:
    """By POST, though it changes nothing: an address in a URL would stand in every log."""
    question = parse(ops_views.PrincipalQuestion, await _body(request))
    return await request.app[keys.DESK].principal(question.principal)


@guarded
async def force_breaker(request: web.Request) -> BaseModel:
    order = parse(ops_views.ForceOrder, await _body(request))
    return _done(await request.app[keys.DESK].force(order, _author(request, order)))


@guarded
async def reset_breaker(request: web.Request) -> BaseModel:
    order = parse(ops_views.ResetOrder, await _body(request))
    return _done(await request.app[keys.DESK].reset_breaker(order, _author(request, order)))


@guarded
async def reset_principal(request: web.Request) -> BaseModel:
    order = parse(ops_views.BucketsOrder, await _body(request))
    return _done(await request.app[keys.DESK].reset_principal(order, _author(request, order)))


@guarded
async def shadow_policy(request: web.Request) -> BaseModel:
    order = parse(ops_views.ShadowOrder, await _body(request))
    return _done(await request.app[keys.DESK].shadow(order, _author(request, order)))


async def _body(request: web.Request) -> dict[str, Any]:
    return await read_object(request, limit_bytes=MOST_ORDER_BYTES)


def _author(request: web.Request, order: ops_views.Order) -> str:
    """Who they say they are, and from where they came, which they cannot choose."""
    return f"{order.by} (page, {request[keys.RECORD].client.address})"


def _done(text: str) -> BaseModel:
    return ops_views.DoneView(done=text)
