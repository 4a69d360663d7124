"""The check itself, before anything is checked with it."""

from __future__ import annotations

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from tests.e2e.windows import Limit, Span, worst_excess

LIMIT = Limit(tokens=2, period_s=1, burst=3)
INSTANTS = st.lists(st.integers(0, 5_000_000), max_size=40)


def at(*times_us: int) -> list[Span]:
    return [Span(time_us, time_us) for time_us in times_us]


def test_burst_and_then_the_rate_is_no_token_too_many() -> None:
    assert worst_excess(at(0, 0, 0, 500_000, 1_000_000), LIMIT) == 0


def test_window_in_the_middle_is_found_though_the_total_is_small() -> None:
    assert worst_excess(at(0, 9_000_000, 9_000_000, 9_000_000, 9_000_000), LIMIT) == 1


def test_admission_that_may_have_been_outside_does_not_count() -> None:
    spans = [*at(1_000_000, 1_000_000, 1_000_000), Span(0, 1_000_000)]
    assert worst_excess(spans, LIMIT) == 0
    assert worst_excess([*spans, *at(1_000_000)], LIMIT) == 1


@given(INSTANTS)
def test_is_what_trying_every_window_finds(times_us: list[int]) -> None:
    tried = [
        sum(since <= time_us <= until for time_us in times_us)
        - Fraction(2 * (until - since), 1_000_000)
        for since in times_us
        for until in times_us
        if since <= until
    ]
    assert worst_excess(at(*times_us), LIMIT) == max(tried, default=Fraction(0)) - LIMIT.burst


@given(INSTANTS)
def test_spans_say_no_more_than_the_instants_inside_of_them(times_us: list[int]) -> None:
    spans = [
        Span(time_us - 1 - index * 1000, time_us + 2) for index, time_us in enumerate(times_us)
    ]
    assert worst_excess(spans, LIMIT) <= worst_excess(at(*times_us), LIMIT)
