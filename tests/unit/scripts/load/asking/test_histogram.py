from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from scripts.load.asking.histogram import HIGHEST_US, Histogram

VALUES = st.lists(st.integers(0, HIGHEST_US), min_size=1, max_size=200)


def histogram(*values: int) -> Histogram:
    made = Histogram()
    for value in values:
        made.record(value)
    return made


def test_is_written_byte_by_byte_as_the_reference_implementation_does() -> None:
    """The text is what HdrHistogram_py 0.10.8 makes of the same values."""
    made = histogram(1, 2, 2, 2047, 2048, 2049, 100_000, 100_001, 5_000_000)

    expected = "HISTFAAAACx4nJNpmSzMwMDAywABzFCaEURcm7yEwf4DVICJ5bs8E8vGCJaLUUwAolwH8Q=="
    assert made.encode() == expected


@given(VALUES, st.floats(0.01, 1))
def test_a_percentile_is_within_a_thousandth_of_the_true_one(
    values: list[int], share: float
) -> None:
    made = histogram(*values)
    ordered = sorted(values)
    wanted = share * len(values)
    true = next(value for rank, value in enumerate(ordered, 1) if rank >= wanted)

    assert true <= made.percentile_us(share) <= true * 1.001 + 1


@given(VALUES, VALUES)
def test_two_put_together_are_as_one_that_saw_everything(one: list[int], other: list[int]) -> None:
    both = histogram(*one)
    both.add(histogram(*other))

    assert both.latency() == histogram(*one, *other).latency()


def test_longest_and_mean_are_exact() -> None:
    latency = histogram(1000, 2000, 4_000_003).latency()

    assert latency is not None
    assert latency.max == 4000.003
    assert latency.mean == (1000 + 2000 + 4_000_003) / 3 / 1000


def test_what_takes_longer_than_an_hour_counts_as_an_hour() -> None:
    assert histogram(HIGHEST_US * 2).max_us == HIGHEST_US


def test_nothing_seen_is_no_latency() -> None:
    assert Histogram().latency() is None
