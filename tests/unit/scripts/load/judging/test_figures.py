"""Numbers as people read them."""

from __future__ import annotations

import math

import pytest

from scripts.load.judging import figures


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"), (3, "3"), (1234567, "1,234,567"), (123.4, "123"), (12.34, "12.3"),
        (1.5, "1.5"), (9.996, "10.00"), (0.00456, "0.00456"), (-2.5, "−2.5"), (1e16, "1.00e+16"),
        (None, "–"), (math.nan, "–"), (math.inf, "–"),
    ],
)  # fmt: skip
def test_numbers(value: float | None, text: str) -> None:
    assert figures.number(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0 ms"), (0.0456, "45.6 µs"), (1, "1 ms"), (999, "999 ms"), (1500, "1.5 s"), (None, "–")],
)
def test_latencies(value: float | None, text: str) -> None:
    assert figures.milliseconds(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(45, "45 s"), (120, "2 min"), (125, "2 min 5 s"), (3600, "1 h"), (5400, "1 h 30 min"),
     (math.inf, "–")],
)  # fmt: skip
def test_lengths_of_time(value: float, text: str) -> None:
    assert figures.seconds(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(5, "0:05"), (750, "12:30"), (3600, "1:00:00"), (math.nan, "–")]
)
def test_moments(value: float, text: str) -> None:
    assert figures.clock(value) == text


def test_sizes() -> None:
    assert [figures.size(2.0 * 1024**power) for power in range(6)] == [
        "2 bytes", "2 KiB", "2 MiB", "2 GiB", "2 TiB", "2,048 TiB",
    ]  # fmt: skip


def test_little_is_not_nothing_and_almost_all_not_all() -> None:
    assert figures.share(1, 10**6) == "< 0.01 %"
    assert figures.share(10**6 - 1, 10**6) == "> 99.99 %"
    assert figures.share(1, 4) == "25 %"
    assert figures.share(0, 4) == "0 %"
    assert figures.share(0, 0) == "–"


@pytest.mark.parametrize(
    ("before", "now", "text"),
    [(10, 12, "+20 %"), (10, 5, "−50 %"), (10, 10.001, "±0 %"), (1, 40, "× 40"), (0, 1, "–"),
     (None, 1, "–"), (200, 203, "+1.5 %")],
)  # fmt: skip
def test_changes(before: float | None, now: float | None, text: str) -> None:
    assert figures.change(before, now) == text


def test_units() -> None:
    assert figures.figure(1500, "µs") == "1.5 ms"
    assert figures.figure(1, "tokens") == "1 token"
    assert figures.figure(2048, "bytes") == "2 KiB"
    assert figures.figure(12, "/s") == "12 /s"
    assert figures.figure(12, "") == "12"
    assert figures.figure(None, "/s") == "–"
