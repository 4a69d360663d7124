"""Latencies read back from HdrHistogram's V2 compressed form, put together, and asked."""

from __future__ import annotations

import base64
import binascii
import math
import struct
import zlib
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

from scripts.load.record import Latency

_COMPRESSED: Final = 0x1C849304
_PLAIN: Final = 0x1C849303
#: Of a cookie, what says the size of words; V2 has only one.
_WORD_BITS: Final = 0xF0
_OUTER: Final = struct.Struct(">II")
#: Cookie, length, offset, significant figures, lowest, highest, ratio.
_INNER: Final = struct.Struct(">IIIIQQd")
#: More than any histogram of latencies holds; what is longer was made to harm.
_MOST_BYTES: Final = 16 * 1024 * 1024


class Unreadable(ValueError):
    """The text is no histogram of this form."""


@dataclass(frozen=True, slots=True)
class Distribution:
    """How many latencies were how long: values ascend, in ms; ``below`` counts up to each."""

    values_ms: tuple[float, ...]
    below: tuple[int, ...]

    @property
    def count(self) -> int:
        return self.below[-1] if self.below else 0

    def at(self, share: float) -> float:
        """The latency that this share of all kept to (0 to 1)."""
        if not self.below:
            raise ValueError("an empty distribution has no percentiles")
        wanted = max(1, math.ceil(share * self.count - 1e-9))
        return self.values_ms[bisect_left(self.below, wanted)]


def distribution(latencies: Iterable[Latency]) -> Distribution:
    """All of them together; exact but for the histogram's own resolution."""
    counts: dict[float, int] = {}
    for latency in latencies:
        for value_ms, count in decoded(latency.histogram):
            counts[value_ms] = counts.get(value_ms, 0) + count
    values = sorted(counts)
    return Distribution(tuple(values), tuple(accumulate(counts[value] for value in values)))


def decoded(histogram: str) -> Iterator[tuple[float, int]]:
    """The highest latency each filled bucket stands for, in ms, and how many are in it."""
    try:
        outer = base64.b64decode(histogram, validate=True)
        cookie, length = _OUTER.unpack_from(outer)
        _known(cookie, _COMPRESSED)
        packed = zlib.decompressobj()
        inner = packed.decompress(outer[_OUTER.size : _OUTER.size + length], _MOST_BYTES)
        cookie, length, offset, figures, lowest, _, _ = _INNER.unpack_from(inner)
    except (binascii.Error, struct.error, zlib.error, ValueError) as error:
        raise Unreadable(f"no V2 compressed histogram: {error}") from error
    _known(cookie, _PLAIN)
    if offset or not 0 <= figures <= 5 or lowest < 1:
        raise Unreadable("a histogram with an offset, or of no known resolution")
    if len(inner) < _INNER.size + length:
        raise Unreadable("the histogram was cut off")
    half = math.ceil(math.log2(2 * 10**figures)) - 1
    unit = lowest.bit_length() - 1
    for index, count in _counts(inner[_INNER.size : _INNER.size + length]):
        bucket, sub = (index >> half) - 1, (index & ((1 << half) - 1)) + (1 << half)
        if bucket < 0:
            bucket, sub = 0, sub - (1 << half)
        yield (((sub + 1) << (bucket + unit)) - 1) / 1000, count


def _known(cookie: int, wanted: int) -> None:
    if cookie & ~_WORD_BITS != wanted:
        raise Unreadable(f"no V2 compressed histogram: it begins with {cookie:#x}")


def _counts(packed: bytes) -> Iterator[tuple[int, int]]:
    """Index and count of each bucket that is not empty."""
    index = at = 0
    while at < len(packed):
        number = shift = 0
        while True:
            if at == len(packed):
                raise Unreadable("the histogram ends within a number")
            byte = packed[at]
            at += 1
            # The ninth byte is the last one and has eight bits of its own.
            number |= (byte if shift == 56 else byte & 0x7F) << shift
            if byte < 0x80 or shift == 56:
                break
            shift += 7
        signed = (number >> 1) ^ -(number & 1)
        if signed > 0:
            yield index, signed
        index += 1 if signed >= 0 else -signed
