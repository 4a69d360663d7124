"""A page's own files: read once, compressed once, and named by their content."""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from aiohttp import hdrs, web

from service.api import answers, codings

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


class Assets:
    """All that a page loads; ``version`` is of all together, since modules name each other."""

    def __init__(self, paths: Iterable[Path]) -> None:
        found = sorted((path for path in paths if path.suffix in TYPES), key=lambda p: p.name)
        self._files = {path.name: files(path.read_bytes(), TYPES[path.suffix]) for path in found}
        tags = "".join(asset.plain.etag for asset in self._files.values())
        self.version = answers.etag(tags.encode())[1:17]

    @property
    def modules(self) -> tuple[str, ...]:
        return tuple(name for name in self._files if name.endswith(".js"))

    def answer(self, request: web.Request) -> web.StreamResponse:
        """The file that the address names as ``version`` and ``asset``; raises HTTPNotFound."""
        found = self._files.get(request.match_info["asset"])
        if found is None:
            raise web.HTTPNotFound
        # While replicas are replaced, a page may ask for the files of another version: it gets
        # ours, and nobody keeps them under that name.
        known = request.match_info["version"] == self.version
        return answer(request, found, FOR_EVER if known else answers.REVALIDATE, {})


def page_answer(request: web.Request, page: Files, *, policy: str) -> web.StreamResponse:
    """The document itself, and all that it may not do."""
    fields = {
        "Content-Security-Policy": policy,
        "Cross-Origin-Opener-Policy": "same-origin",
        "Referrer-Policy": "no-referrer",
    }
    return answer(request, page, answers.REVALIDATE, fields)


def answer(
    request: web.Request, found: Files, cache: str, fields: Mapping[str, str]
) -> web.StreamResponse:
    wanted = codings.wanted(", ".join(request.headers.getall(hdrs.ACCEPT_ENCODING, ())) or None)
    file = found.gzipped if wanted.gzip_first else found.plain
    headers = {hdrs.CACHE_CONTROL: cache, **file.headers, **fields}
    if answers.is_known(request, file.etag):
        return web.Response(status=304, headers=headers)
    return web.Response(body=file.body, headers=headers)


def files(body: bytes, content_type: str) -> Files:
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
