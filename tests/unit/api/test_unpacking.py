"""Compressed bodies: never unpacked past the limit, whatever they would become."""

from __future__ import annotations

import gzip
import tracemalloc
import zlib
from collections.abc import Callable

import pytest

from service.api.unpacking import coding_of, unpacked
from service.errors import BodyTooLarge, UnsupportedCoding

LIMIT = 4096
#: Of nothing but blanks, 5,000 times the limit.
BOMB = b" " * (5000 * LIMIT)


@pytest.mark.parametrize(("coding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
def test_bomb_is_refused_before_it_takes_memory(
    coding: str, pack: Callable[[bytes], bytes]
) -> None:
    packed = pack(BOMB)
    tracemalloc.start()
    try:
        with pytest.raises(BodyTooLarge):
            unpacked(packed, coding, limit_bytes=LIMIT)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("length", [LIMIT - 1, LIMIT, LIMIT + 1])
def test_limit_is_met_exactly(length: int) -> None:
    packed = gzip.compress(b"x" * length)
    if length > LIMIT:
        with pytest.raises(BodyTooLarge):
            unpacked(packed, "gzip", limit_bytes=LIMIT)
    else:
        assert unpacked(packed, "gzip", limit_bytes=LIMIT) == b"x" * length


def test_lines_are_read_as_one_list() -> None:
    assert coding_of([]) is None
    assert coding_of(["", "identity, "]) is None
    assert coding_of(["identity", "X-GZip"]) == "gzip"
    with pytest.raises(UnsupportedCoding):
        coding_of(["gzip", "deflate"])
