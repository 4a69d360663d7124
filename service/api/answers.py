"""JSON answers, and the conditional ones: a strong ETag over the bytes, 304 where it is known."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping

from aiohttp import hdrs, web
from pydantic import BaseModel

#: May be kept, but must be asked about before each use.
REVALIDATE = "no-cache"
NEVER_STORED = "no-store"
#: One element of If-None-Match, perhaps empty, to the end of the field or the comma behind it.
_LISTED_TAG = re.compile(r'[ \t]*(?:(?:W/)?("[\x21\x23-\x7e\x80-\U0010ffff]*"))?[ \t]*(?:,|\Z)')


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
    lines = request.headers.getall(hdrs.IF_NONE_MATCH, ())
    if not lines:
        return False
    field = lines[0] if len(lines) == 1 else ", ".join(lines)
    return field == tag or field.strip(" \t") == "*" or tag in _tags(field)


def _tags(field: str) -> set[str]:
    """The opaque tags of a list, with their quotes; what follows a fault is not read."""
    found: set[str] = set()
    position = 0
    while match := _LISTED_TAG.match(field, position):
        if match[1]:
            found.add(match[1])
        position = match.end()
        if position == len(field):
            break
    return found
