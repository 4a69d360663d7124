"""The page for purchasers: a document, its style and its modules, all from our own files."""

from __future__ import annotations

from html import escape
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Literal

from aiohttp import web

import service
from service.api import keys, page_files

if TYPE_CHECKING:
    from service.settings import ShopSettings

STATIC = Path(__file__).parent.parent / "static" / "shop"


class Shop:
    """All of them, read and filled in once."""

    def __init__(
        self,
        settings: ShopSettings,
        *,
        network: str,
        result_hash: Literal["escaped", "raw"],
    ) -> None:
        self.assets = page_files.Assets(STATIC.iterdir())
        version = self.assets.version
        filled = Template((STATIC / "page.html").read_text(encoding="utf-8")).substitute(
            version=version,
            service=escape(service.__version__),
            network=escape(network),
            result_hash=result_hash,
            sandbox=escape(settings.sandbox_url or ""),
            modules="\n".join(
                f'<link rel="modulepreload" href="shop/{version}/{name}">'
                for name in self.assets.modules
            ),
        )
        self.page = page_files.files(filled.encode(), "text/html")
        connect = "'self'" if settings.sandbox_url is None else f"'self' {settings.sandbox_url}"
        self.policy = page_files.POLICY.format(connect=connect)


async def page(request: web.Request) -> web.StreamResponse:
    shop = _shop(request)
    return page_files.page_answer(request, shop.page, policy=shop.policy)


async def asset(request: web.Request) -> web.StreamResponse:
    return _shop(request).assets.answer(request)


def _shop(request: web.Request) -> Shop:
    shop = request.app[keys.SHOP]
    if shop is None:
        raise web.HTTPNotFound
    return shop
