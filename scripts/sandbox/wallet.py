"""``/control/wallet``: what a page does in a browser in place of a purchaser's wallet.

No key, since a page could keep none; and any page may call it, since nothing here is worth a thing.
"""

from __future__ import annotations

from typing import Annotated

from aiohttp import hdrs, web
from pydantic import Field

from scripts.sandbox import buyer
from scripts.sandbox.keys import SANDBOX
from scripts.sandbox.requests import About, Body, Refusal, parse

BASE = "/control/wallet"


class Holder(Body):
    identifier_from_purchaser: Annotated[str, Field(min_length=14, max_length=26)]


def setup(app: web.Application) -> None:
    for name, handler in (("hold", hold), ("pay", buyer.purchase), ("look", look)):
        app.router.add_post(f"{BASE}/{name}", handler)
        app.router.add_options(f"{BASE}/{name}", _preflight)
    app.on_response_prepare.append(_allow_pages)


async def hold(request: web.Request) -> web.Response:
    """This purchaser will pay by itself: no payment of its pays itself meanwhile."""
    asked = parse(Holder, await request.read())
    request.app[SANDBOX].ledger.by_hand.add(asked.identifier_from_purchaser)
    return web.json_response({"status": "success"})


async def look(request: web.Request) -> web.Response:
    """What the chain says of a payment, for everybody to read."""
    asked = parse(About, await request.read())
    record = request.app[SANDBOX].ledger.by_identifier(asked.blockchain_identifier)
    if record is None:
        raise Refusal(404, "No such payment")
    return web.json_response(
        {
            "onChainState": record.now.state,
            "inputHash": record.terms.input_hash,
            "resultHash": record.now.result_hash,
        }
    )


async def _preflight(_request: web.Request) -> web.Response:
    headers = {
        hdrs.ACCESS_CONTROL_ALLOW_METHODS: hdrs.METH_POST,
        hdrs.ACCESS_CONTROL_ALLOW_HEADERS: hdrs.CONTENT_TYPE,
    }
    return web.Response(status=204, headers=headers)


async def _allow_pages(request: web.Request, answer: web.StreamResponse) -> None:
    if request.path.startswith(f"{BASE}/"):
        answer.headers[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] = "*"
