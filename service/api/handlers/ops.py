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
from service.api.desk import Desk
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


def _taking(
    model: type[OrderModel], carry_out: Callable[[Desk, OrderModel, str], Awaitable[str]]
) -> Handler:
    """Takes an order to the desk, with the name of whoever gives it."""

    @guarded
    async def take(request: web.Request) -> BaseModel:
        order = parse(model, await _body(request))
        # Who they say they are, and from where they came, which they cannot choose.
        author = f"{order.by} (page, {request[keys.RECORD].client.address})"
        return ops_views.DoneView(done=await carry_out(request.app[keys.DESK], order, author))

    return take


force_breaker = _taking(ops_views.ForceOrder, Desk.force)
reset_breaker = _taking(ops_views.ResetOrder, Desk.reset_breaker)
reset_principal = _taking(ops_views.BucketsOrder, Desk.reset_principal)
shadow_policy = _taking(ops_views.ShadowOrder, Desk.shadow)


async def _body(request: web.Request) -> dict[str, Any]:
    return await read_object(request, limit_bytes=MOST_ORDER_BYTES)
