"""The page for purchasers: a document, its style and its modules, all from our own files."""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from html import escape
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Literal

from aiohttp import hdrs, web

import service
from service.api import answers, codings, keys

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
    """One of the page's files in one coding, as it is sent."""

    body: bytes
    etag: str
    headers: dict[str, str]


@dataclass(frozen=True, slots=True)
class Files:
    """The same in both codings."""

    plain: File
    gzipped: File


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
        self.assets = {path.name: _files(path.read_bytes(), TYPES[path.suffix]) for path in found}
        #: Of all assets together, since modules name each other.
        tags = "".join(files.plain.etag for files in self.assets.values())
        self.version = answers.etag(tags.encode())[1:17]
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
        self.page = _files(filled.encode(), "text/html")
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
    request: web.Request, files: Files, cache: str, fields: dict[str, str]
) -> web.StreamResponse:
    wanted = codings.wanted(", ".join(request.headers.getall(hdrs.ACCEPT_ENCODING, ())) or None)
    file = files.gzipped if wanted.gzip_first else files.plain
    headers = {hdrs.CACHE_CONTROL: cache, **file.headers, **fields}
    if answers.is_known(request, file.etag):
        return web.Response(status=304, headers=headers)
    return web.Response(body=file.body, headers=headers)


def _files(body: bytes, content_type: str) -> Files:
    # No time in it: the same bytes, and the same tag, from every worker.
    compressed = gzip.compress(body, mtime=0)
    return Files(
        _file(body, content_type, {}),
        _file(compressed, content_type, {hdrs.CONTENT_ENCODING: codings.GZIP}),
    )


def _file(body: bytes, content_type: str, fields: dict[str, str]) -> File:
    tag = answers.etag(body)
    headers = {
        hdrs.CONTENT_TYPE: f"{content_type}; charset=utf-8",
        hdrs.ETAG: tag,
        hdrs.VARY: hdrs.ACCEPT_ENCODING,
        "X-Content-Type-Options": "nosniff",
        **fields,
    }
    return File(body, tag, headers)
