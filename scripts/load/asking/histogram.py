"""Latencies in HdrHistogram's buckets, 1 µs to an hour at three digits, and in its V2 format.

Of our own: the package on PyPI has no wheel for Linux on ARM, needs a compiler there, and records
no faster. What is written here, its tools read (``tests/unit/scripts/load/test_histogram.py``).
"""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Iterator, Mapping

from scripts.load.record import Latency

HIGHEST_US = 3_600_000_000
DIGITS = 3
#: Values of one bucket that are told apart: the power of two above 2 * 10 ** DIGITS, and its log.
_WITHIN, _WITHIN_BITS = 2048, 11
_HALF, _HALF_BITS = _WITHIN // 2, _WITHIN_BITS - 1
#: Cookies of the encoding, and of its compression.
_PLAIN, _COMPRESSED = 0x1C849313, 0x1C849314
_HEAD = struct.Struct(">iiiiqqd")
_WRAP = struct.Struct(">ii")


class Histogram:
    """How often which latency was seen; sum and maximum are exact."""

    __slots__ = ("counts", "max_us", "total_us")

    def __init__(self) -> None:
        #: By index of the bucket: few of the 23,552 are ever in use.
        self.counts: dict[int, int] = {}
        self.total_us = 0
        self.max_us = 0

    @property
    def count(self) -> int:
        return sum(self.counts.values())

    def record(self, us: int) -> None:
        if us > self.max_us:
            us = min(us, HIGHEST_US)
            self.max_us = us
        self.total_us += us
        bucket = us.bit_length() - _WITHIN_BITS
        index = us if bucket <= 0 else (bucket << _HALF_BITS) + (us >> bucket)
        self.counts[index] = self.counts.get(index, 0) + 1

    def add(self, other: Histogram) -> None:
        for index, count in other.counts.items():
            self.counts[index] = self.counts.get(index, 0) + count
        self.total_us += other.total_us
        self.max_us = max(self.max_us, other.max_us)

    def percentile_us(self, share: float) -> int:
        """The least value that ``share`` (0 to 1) of all do not exceed; 0 where there are none."""
        wanted, seen = share * self.count, 0
        for index in sorted(self.counts):
            seen += self.counts[index]
            if seen >= wanted:
                return min(_highest(index), self.max_us)
        return 0

    def encode(self) -> str:
        """HdrHistogram's V2 compressed form in base64, as its logs hold it."""
        payload = b"".join(_runs(self.counts))
        plain = _HEAD.pack(_PLAIN, len(payload), 0, DIGITS, 1, HIGHEST_US, 1.0) + payload
        packed = zlib.compress(plain)
        return base64.b64encode(_WRAP.pack(_COMPRESSED, len(packed)) + packed).decode()

    def latency(self) -> Latency | None:
        """As a record holds it; None where nothing was seen."""
        count = self.count
        if not count:
            return None
        p50, p90, p99, p999 = (
            self.percentile_us(share) / 1000 for share in (0.5, 0.9, 0.99, 0.999)
        )
        return Latency(
            count=count,
            mean=self.total_us / count / 1000,
            p50=p50,
            p90=p90,
            p99=p99,
            p999=p999,
            max=self.max_us / 1000,
            histogram=self.encode(),
        )


def _lowest(index: int) -> int:
    bucket = max(0, (index >> _HALF_BITS) - 1)
    return (index - (bucket << _HALF_BITS)) << bucket


def _highest(index: int) -> int:
    bucket = max(0, (index >> _HALF_BITS) - 1)
    return _lowest(index) + (1 << bucket) - 1


def _runs(counts: Mapping[int, int]) -> Iterator[bytes]:
    """Every count up to the last; of empty ones only how many there are, as a negative number."""
    following = 0
    for index in sorted(counts):
        if index > following:
            yield _written(following - index)
        yield _written(counts[index])
        following = index + 1


def _written(number: int) -> bytes:
    """ZigZag, seven bits a byte, the low ones first."""
    rest = number << 1 if number >= 0 else (-number << 1) - 1
    made = bytearray()
    while rest > 0x7F:
        made.append(rest & 0x7F | 0x80)
        rest >>= 7
    made.append(rest)
    return bytes(made)
