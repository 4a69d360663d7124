"""Histograms read back: what the generator wrote, and what HdrHistogram's own tools write."""

from __future__ import annotations

import base64
import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripts.load.asking.histogram import Histogram
from scripts.load.judging.percentiles import Unreadable, decoded, distribution
from tests.support.load_records import latency

#: Made with hdrhistogram 0.10.8: 1, 5, 1000, 5000, 5000 and 70000 µs, up to a minute, 2 digits.
OTHER = "HISTFAAAACx4nJNpmSzMwMDAywABTFCaEUQwT25nsP8AFWBiZXrOznSQheUqOxMAhr0GRA=="


def histogram(*values_us: int) -> Histogram:
    found = Histogram()
    for value in values_us:
        found.record(value)
    return found


@given(values=st.lists(st.integers(0, 3_600_000_000), min_size=1, max_size=200))
def test_what_was_written_comes_back(values: list[int]) -> None:
    written = histogram(*values)
    read = list(decoded(written.encode()))
    assert sum(count for _, count in read) == len(values)
    assert [value for value, _ in read] == sorted({value for value, _ in read})
    for value_ms, wanted in zip(
        (v for v, count in read for _ in range(count)), sorted(values), strict=True
    ):
        assert wanted <= value_ms * 1000 + 1e-6 <= max(wanted * 1.001, wanted + 1)


@given(
    parts=st.lists(
        st.lists(st.integers(1, 10**7), min_size=1, max_size=60), min_size=1, max_size=4
    ),
    share=st.sampled_from([0.0, 0.5, 0.9, 0.99, 0.999, 1.0]),
)
def test_percentile_of_several_is_that_of_all_their_values(
    parts: list[list[int]], share: float
) -> None:
    latencies = [found for part in parts if (found := histogram(*part).latency())]
    every = sorted(value for part in parts for value in part)
    exact = every[max(0, -int(-share * len(every) // 1) - 1)] / 1000
    assert distribution(latencies).at(share) == pytest.approx(exact, rel=0.002, abs=0.0011)


def test_histogram_of_others_is_read() -> None:
    found = list(decoded(OTHER))
    assert [count for _, count in found] == [1, 1, 1, 2, 1]
    assert [value for value, _ in found] == pytest.approx([0.001, 0.005, 1.0, 5.0, 70.0], rel=0.01)


def test_nothing_recorded_has_no_percentiles() -> None:
    empty = distribution([])
    assert empty.count == 0
    with pytest.raises(ValueError, match="no percentiles"):
        empty.at(0.5)


@pytest.mark.parametrize(
    "text",
    ["", "AAAA", "?", "\N{SNOWMAN}", base64.b64encode(b"\x1c\x84\x93\x14\0\0\0\x04oops").decode()],
)
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(Unreadable):
        list(decoded(text))


def test_histogram_that_was_cut_off_is_refused() -> None:
    inner = zlib.decompress(base64.b64decode(histogram(300, 70_000).encode())[8:])
    cut = zlib.compress(inner[:-1])
    with pytest.raises(Unreadable, match="cut off"):
        list(decoded(wrapped(cut)))


def test_histogram_that_was_shifted_is_refused() -> None:
    head = struct.pack(">IIIIQQd", 0x1C849313, 1, 7, 3, 1, 3_600_000_000, 1.0)
    with pytest.raises(Unreadable, match="with an offset"):
        list(decoded(wrapped(zlib.compress(head + b"\x02"))))


def test_number_without_an_end_is_refused() -> None:
    head = struct.pack(">IIIIQQd", 0x1C849313, 1, 0, 3, 1, 3_600_000_000, 1.0)
    with pytest.raises(Unreadable, match="ends within a number"):
        list(decoded(wrapped(zlib.compress(head + b"\x80"))))


def test_histogram_that_unfolds_to_gigabytes_is_not_unfolded() -> None:
    bomb = zlib.compress(b"\0" * 64 * 1024 * 1024)
    with pytest.raises(Unreadable):
        list(decoded(wrapped(bomb)))


def wrapped(packed: bytes) -> str:
    return base64.b64encode(struct.pack(">II", 0x1C849314, len(packed)) + packed).decode()


def test_quantiles_are_those_the_record_holds() -> None:
    found = latency(float(value) for value in range(1, 2001))
    assert found is not None
    read = distribution([found])
    assert read.at(0.5) == pytest.approx(found.p50, rel=0.001)
    assert read.at(0.99) == pytest.approx(found.p99, rel=0.001)
    assert read.count == found.count
