"""Request bodies: strict JSON objects, or a 4xx that says what is wrong.

Python's own parser takes NaN, infinities, duplicate keys, lone surrogates and numbers no other
language can hold; each would be hashed or stored differently somewhere else. What passes here is
I-JSON (RFC 7493) and free of NUL, which PostgreSQL cannot store.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Iterator
from typing import Any, NoReturn

import pydantic_core
from aiohttp import hdrs, web
from aiohttp.http_exceptions import HttpProcessingError

from service.api import unpacking
from service.errors import BodyTooLarge, BodyTooSlow, MalformedBody, UnsupportedMediaType

#: Deeper than any schema asks for, far below what could exhaust a stack.
MAX_DEPTH = 64
#: The largest integer every JSON reader holds exactly (2^53 - 1).
MAX_INTEGER = 2**53 - 1
#: A client has this long to send all of it, so that a slow one is told apart from a slow service.
LIMIT_S = 15.0
_MAX_INTEGER_TEXT = len(str(-MAX_INTEGER))


async def read_object(request: web.Request, *, limit_bytes: int) -> dict[str, Any]:
    """The request's body as a JSON object.

    Raises UnsupportedMediaType, UnsupportedCoding, BodyTooLarge, BodyTooSlow or MalformedBody.
    """
    _check_media_type(request)
    coding = unpacking.coding_of(request.headers.getall(hdrs.CONTENT_ENCODING, ()))
    if (request.content_length or 0) > limit_bytes:
        raise BodyTooLarge(_too_large(limit_bytes))
    try:
        async with asyncio.timeout(None if request.content.is_eof() else LIMIT_S):
            raw = await request.read()
    except TimeoutError as error:
        raise BodyTooSlow(f"The body did not come within {LIMIT_S:g} s.") from error
    except web.HTTPRequestEntityTooLarge as error:  # chunked: known only while reading
        raise BodyTooLarge(_too_large(limit_bytes)) from error
    except (web.RequestPayloadError, HttpProcessingError, ConnectionError) as error:
        raise MalformedBody("The body ended early or its encoding is broken.") from error
    if len(raw) > limit_bytes:
        raise BodyTooLarge(_too_large(limit_bytes))
    if coding is not None:
        raw = unpacking.unpacked(raw, coding, limit_bytes=limit_bytes)
    return parse_object(raw)


def parse_object(raw: bytes) -> dict[str, Any]:
    """``raw`` as a JSON object; raises MalformedBody."""
    if not raw.strip():
        raise MalformedBody("The body is empty; a JSON object is expected.")
    try:
        # First a parser whose depth and digits are bounded, and that refuses lone surrogates.
        pydantic_core.from_json(raw, allow_inf_nan=False, cache_strings="none")
    except ValueError as error:
        raise MalformedBody(f"The body is not valid JSON: {error}.") from error
    value = json.loads(
        raw.decode(),
        object_pairs_hook=_unique_keys,
        parse_int=_integer,
        parse_float=_finite,
        parse_constant=_constant,
    )
    if not isinstance(value, dict):
        raise MalformedBody("The body must be a JSON object.")
    _check_depth(value)
    if b"\\u0000" in raw:  # the only way a NUL can be written
        _check_texts(value)
    return value


def _check_media_type(request: web.Request) -> None:
    charset = (request.charset or "utf-8").lower()
    if request.content_type != "application/json" or charset not in ("utf-8", "utf8"):
        raise UnsupportedMediaType("Send the body as application/json, in UTF-8.")


def _too_large(limit_bytes: int) -> str:
    return f"The body may have {limit_bytes} bytes at most."


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        raise MalformedBody("An object in the body has the same key twice.")
    return members


def _integer(text: str) -> int:
    if len(text) > _MAX_INTEGER_TEXT or abs(value := int(text)) > MAX_INTEGER:
        raise MalformedBody(
            f"An integer in the body is beyond ±{MAX_INTEGER}; send it as a string."
        )
    return value


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise MalformedBody("A number in the body is too large.")
    return value


def _constant(_text: str) -> NoReturn:
    raise MalformedBody("The body holds a number that JSON does not have.")


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [child for parent in level for child in _children(parent)]
        if not level:
            return
    raise MalformedBody(f"The body is nested more than {MAX_DEPTH} levels deep.")


def _children(parent: Any) -> Iterator[Any]:
    members = parent.values() if isinstance(parent, dict) else parent
    return (child for child in members if isinstance(child, dict | list))


def _check_texts(value: Any) -> None:
    if isinstance(value, dict):
        for key, child in value.items():
            _check_texts(key)
            _check_texts(child)
    elif isinstance(value, list):
        for child in value:
            _check_texts(child)
    elif isinstance(value, str) and "\x00" in value:
        raise MalformedBody("A text in the body contains the NUL character.")
