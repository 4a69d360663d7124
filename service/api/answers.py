"""JSON answers, and the conditional ones: a strong ETag over the bytes, 304 where it is known."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from aiohttp import hdrs, web
from pydantic import BaseModel

#: May be kept, but must be asked about before each use.
REVALIDATE = "no-cache"
NEVER_STORED = "no-store"


def answer(
    body: BaseModel | bytes,
    *,
    cache: str = NEVER_STORED,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
) -> web.Response:
    """``body`` as JSON; members that are None are left out."""
    raw = body if isinstance(body, bytes) else encode(body)
    return web.Response(
        status=status,
        body=raw,
        content_type="application/json",
        headers={hdrs.CACHE_CONTROL: cache, **(headers or {})},
    )


def conditional(
    request: web.Request, body: BaseModel | bytes, *, cache: str = REVALIDATE
) -> web.Response:
    """As ``answer``, but 304 without a body for a client that has these very bytes."""
    raw = body if isinstance(body, bytes) else encode(body)
    tag = etag(raw)
    headers: dict[str, str] = {hdrs.ETAG: tag, hdrs.CACHE_CONTROL: cache}
    if is_known(request, tag):
        return web.Response(status=304, headers=headers)
    return answer(raw, cache=cache, headers=headers)


def encode(body: BaseModel) -> bytes:
    """The bytes of an answer; the same for the same content."""
    return body.model_dump_json(exclude_none=True).encode()


def etag(raw: bytes) -> str:
    """A strong validator: equal exactly when the bytes are."""
    return f'"{hashlib.blake2b(raw, digest_size=16).hexdigest()}"'


def is_known(request: web.Request, tag: str) -> bool:
    """Does If-None-Match name this tag (or any)? Compared weakly, as RFC 9110 has it for GET."""
    offered = request.if_none_match or ()
    return any(known.value in ("*", tag.strip('"')) for known in offered)
