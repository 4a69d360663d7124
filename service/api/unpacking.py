"""Compressed request bodies: unpacked when they are read, and never to more than is allowed."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

from service.errors import BodyTooLarge, MalformedBody, UnsupportedCoding

GZIP, DEFLATE = "gzip", "deflate"
#: As Accept-Encoding says it.
ACCEPTED = f"{GZIP}, {DEFLATE}"
_SPELLINGS = {GZIP: GZIP, "x-gzip": GZIP, DEFLATE: DEFLATE}
_GZIP_BITS = 16 + zlib.MAX_WBITS
#: The method in the first byte of a zlib stream (RFC 1950); some send "deflate" without it.
_DEFLATED = 8


def coding_of(lines: Sequence[str]) -> str | None:
    """The coding a body was sent in, by its Content-Encoding; raises UnsupportedCoding."""
    names = [name.strip(" \t").lower() for line in lines for name in line.split(",")]
    codings = [name for name in names if name not in ("", "identity")]
    if not codings:
        return None
    if len(codings) > 1 or codings[0] not in _SPELLINGS:
        raise UnsupportedCoding(
            "Send the body as it is, or with one Content-Encoding: gzip or deflate."
        )
    return _SPELLINGS[codings[0]]


def unpacked(raw: bytes, coding: str, *, limit_bytes: int) -> bytes:
    """What was compressed; raises MalformedBody or BodyTooLarge."""
    bits = _GZIP_BITS
    if coding == DEFLATE:
        bits = zlib.MAX_WBITS if raw[:1] and raw[0] & 0x0F == _DEFLATED else -zlib.MAX_WBITS
    unpacker = zlib.decompressobj(bits)
    try:
        body = unpacker.decompress(raw, limit_bytes + 1)
    except zlib.error as error:
        raise MalformedBody(f"The body is not what {coding} makes.") from error
    if len(body) > limit_bytes:
        raise BodyTooLarge(f"The body may have {limit_bytes} bytes at most, unpacked.")
    if not unpacker.eof or unpacker.unused_data:
        raise MalformedBody(f"The body is not what {coding} makes: it ends too early or too late.")
    return body
