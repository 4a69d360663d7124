"""The page for purchasers: a document, its style and its modules, all from our own files."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Literal

from aiohttp import hdrs, web

import service
from service.api import answers, keys

if TYPE_CHECKING:
    from service.settings import ShopSettings

STATIC = Path(__file__).parent.parent / "static" / "shop"
TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
#: Nothing from elsewhere, nothing inline, and no text that is ever taken for HTML or script.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self';"
    " connect-src {connect}; base-uri 'none'; form-action 'none'; frame-ancestors 'none';"
    " require-trusted-types-for 'script'; trusted-types 'none'"
)
#: An asset's address names the content of all of them.
FOR_EVER = "public, max-age=31536000, immutable"


@dataclass(frozen=True, slots=True)
class File:
    """One of the page's files as it is sent."""

    body: bytes
    content_type: str
    etag: str


class Shop:
    """All of them, read and filled in once."""

    def __init__(
        self,
        settings: ShopSettings,
        *,
        network: str,
        result_hash: Literal["escaped", "raw"],
    ) -> None:
        found = sorted(path for path in STATIC.iterdir() if path.suffix in TYPES)
        self.assets = {path.name: _file(path.read_bytes(), TYPES[path.suffix]) for path in found}
        #: Of all assets together, since modules name each other.
        self.version = answers.etag("".join(f.etag for f in self.assets.values()).encode())[1:17]
        modules = (name for name in self.assets if name.endswith(".js"))
        filled = Template((STATIC / "page.html").read_text(encoding="utf-8")).substitute(
            version=self.version,
            service=escape(service.__version__),
            network=escape(network),
            result_hash=result_hash,
            sandbox=escape(settings.sandbox_url or ""),
            modules="\n".join(
                f'<link rel="modulepreload" href="shop/{self.version}/{name}">' for name in modules
            ),
        )
        self.page = _file(filled.encode(), "text/html")
        connect = "'self'" if settings.sandbox_url is None else f"'self' {settings.sandbox_url}"
        self.policy = POLICY.format(connect=connect)


async def page(request: web.Request) -> web.StreamResponse:
    shop = _shop(request)
    fields = {
        "Content-Security-Policy": shop.policy,
        "Cross-Origin-Opener-Policy": "same-origin",
        "Referrer-Policy": "no-referrer",
    }
    return _answer(request, shop.page, answers.REVALIDATE, fields)


async def asset(request: web.Request) -> web.StreamResponse:
    shop = _shop(request)
    found = shop.assets.get(request.match_info["asset"])
    if found is None:
        raise web.HTTPNotFound
    # While replicas are replaced, a page may ask for the files of another version: it gets ours,
    # and nobody keeps them under that name.
    known = request.match_info["version"] == shop.version
    return _answer(request, found, FOR_EVER if known else answers.REVALIDATE, {})


def _shop(request: web.Request) -> Shop:
    shop = request.app[keys.SHOP]
    if shop is None:
        raise web.HTTPNotFound
    return shop


def _answer(
    request: web.Request, file: File, cache: str, fields: dict[str, str]
) -> web.StreamResponse:
    headers = {
        hdrs.ETAG: file.etag,
        hdrs.CACHE_CONTROL: cache,
        "X-Content-Type-Options": "nosniff",
        **fields,
    }
    if answers.is_known(request, file.etag):
        return web.Response(status=304, headers=headers)
    return web.Response(
        body=file.body, content_type=file.content_type, charset="utf-8", headers=headers
    )


def _file(body: bytes, content_type: str) -> File:
    return File(body, content_type, answers.etag(body))
