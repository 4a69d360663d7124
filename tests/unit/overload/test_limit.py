"""The limit as a rule: told of delays, it finds how many at once keep them short."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.overload.limit import ALARM, CALM_LOOKS, FLOOR, AdaptiveLimit

TARGET_S = 0.005
LEAST = 16

delays = st.floats(0, 1, allow_nan=False)
looks = st.lists(st.tuples(delays, st.integers(0, 5000), st.booleans()), max_size=60)


def new() -> AdaptiveLimit:
    return AdaptiveLimit(target_s=TARGET_S, least=LEAST)


class Worker:
    """One thread: each request in flight takes its part of a turn, and waits for all others'."""

    def __init__(self, cost_s: float) -> None:
        self.cost_s = cost_s
        self.limit = new()
        self.delay_s = 0.0

    def look(self, offered: int) -> None:
        """``offered`` would be in flight if all were let in."""
        room = self.limit.value
        inside = offered if room is None else min(offered, int(room))
        self.delay_s = inside * self.cost_s
        self.limit.look(self.delay_s, in_flight=inside, pressed=inside < offered)


@given(looks)
def test_it_is_never_below_the_floor(schedule: list[tuple[float, int, bool]]) -> None:
    limit = new()
    for delay_s, in_flight, pressed in schedule:
        limit.look(delay_s, in_flight=in_flight, pressed=pressed)
        assert limit.value is None or limit.value >= FLOOR


@given(looks, delays, st.integers(0, 5000), st.booleans())
def test_a_long_wait_never_raises_it_and_a_short_one_never_lowers_it(
    schedule: list[tuple[float, int, bool]], delay_s: float, in_flight: int, pressed: bool
) -> None:
    limit = new()
    for each_s, number, full in schedule:
        limit.look(each_s, in_flight=number, pressed=full)
    before = limit.value
    limit.look(delay_s, in_flight=in_flight, pressed=pressed)
    after = limit.value
    if before is not None and delay_s > TARGET_S:
        assert after is not None
        assert after <= max(before, FLOOR)
    elif before is not None:
        assert after is None or after >= before


@given(
    st.lists(
        st.one_of(
            st.tuples(delays, st.integers(0, LEAST)),
            st.tuples(st.floats(0, TARGET_S * ALARM), st.integers(0, 5000)),
        ),
        max_size=60,
    )
)
def test_there_is_none_for_few_requests_nor_for_bearable_waits(
    schedule: list[tuple[float, int]],
) -> None:
    limit = new()
    for delay_s, in_flight in schedule:
        limit.look(delay_s, in_flight=in_flight, pressed=False)
    assert limit.value is None


@given(st.integers(10, 200), st.floats(1.5, 50))
def test_it_finds_what_keeps_the_wait_as_long_as_it_may_be(fitting: int, load: float) -> None:
    """``fitting`` at once make just that wait; several times as many come."""
    worker = Worker(TARGET_S / fitting)
    offered = round(max(LEAST, fitting) * load * ALARM)
    for _ in range(15):
        worker.look(offered)
    seen_s = []
    for _ in range(30):
        worker.look(offered)
        seen_s.append(worker.delay_s)
    assert max(seen_s) <= 1.3 * TARGET_S
    # And no fewer than that: nobody is refused who could have been served.
    assert min(seen_s) >= 0.7 * TARGET_S


@given(st.integers(20, 200), st.integers(20, 200))
def test_it_follows_when_requests_become_dearer_or_cheaper(before: int, after: int) -> None:
    worker = Worker(TARGET_S / before)
    for _ in range(30):
        worker.look(10_000)
    worker.cost_s = TARGET_S / after
    for _ in range(30):
        worker.look(10_000)
    assert 0.7 * TARGET_S <= worker.delay_s <= 1.3 * TARGET_S


def test_the_first_one_is_made_of_what_is_in_flight() -> None:
    limit = new()
    limit.look(TARGET_S * ALARM * 1.01, in_flight=400, pressed=False)
    assert limit.value == pytest.approx(200)  # by half at most in one look


def test_what_was_never_filled_holds_nothing_back_and_is_lowered_to_what_is_there() -> None:
    limit = new()
    limit.look(1.0, in_flight=2000, pressed=False)
    assert limit.value == pytest.approx(1000)
    limit.look(2 * TARGET_S, in_flight=100, pressed=False)
    assert limit.value == pytest.approx(50)


def test_what_is_all_asked_for_is_lowered_from_where_it_is() -> None:
    """A kind that may fill half of it, and does: that half is not the limit."""
    limit = new()
    limit.look(1.0, in_flight=2000, pressed=False)
    limit.look(2 * TARGET_S, in_flight=500, pressed=True)
    assert limit.value == pytest.approx(500)


def test_it_is_lifted_when_nobody_was_turned_away_for_long_enough() -> None:
    limit = new()
    limit.look(1.0, in_flight=2000, pressed=False)
    for _ in range(CALM_LOOKS - 1):
        limit.look(0.0, in_flight=3, pressed=False)
    assert limit.value is not None
    limit.look(0.0, in_flight=3, pressed=True)  # once more: it counts anew
    for _ in range(CALM_LOOKS - 1):
        limit.look(0.0, in_flight=3, pressed=False)
    assert limit.value is not None
    limit.look(0.0, in_flight=3, pressed=False)
    assert limit.value is None
