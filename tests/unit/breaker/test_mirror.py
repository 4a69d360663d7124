"""Refusals remembered: free, honest, and never for longer than the fleet said."""

from __future__ import annotations

import pytest

from service.breaker.mirror import ASK_AGAIN_S, Mirror
from tests.support.breaker import Clocks


@pytest.fixture
def clocks() -> Clocks:
    return Clocks()


@pytest.fixture
def mirror(clocks: Clocks) -> Mirror:
    return Mirror(clock=clocks.local)


def test_empty_it_refuses_nobody(mirror: Mirror) -> None:
    assert mirror.wait_s() == 0
    assert repr(mirror) == "<Mirror empty>"


def test_a_refusal_counts_from_the_question_and_ends_on_time(
    mirror: Mirror, clocks: Clocks
) -> None:
    clocks.local_s += 0.1  # the answer took this long
    mirror.remember(0.4, asked_at_s=clocks.local_s - 0.1)
    assert mirror.wait_s() == pytest.approx(0.3)
    assert repr(mirror) == "<Mirror refusing for 0.3 s>"
    clocks.local_s += 0.3
    assert mirror.wait_s() <= 0


def test_one_caller_in_half_a_second_is_told_to_ask(mirror: Mirror, clocks: Clocks) -> None:
    mirror.remember(30, asked_at_s=clocks.local_s)
    asked = 0
    for _ in range(40):
        clocks.local_s += 0.1
        asked += [mirror.wait_s() for _ in range(5)].count(0.0)
    assert 4 / ASK_AGAIN_S - 2 <= asked <= 4 / ASK_AGAIN_S


def test_forgotten_it_refuses_nobody(mirror: Mirror, clocks: Clocks) -> None:
    mirror.remember(30, asked_at_s=clocks.local_s)
    assert mirror.wait_s() > 0
    mirror.forget()
    assert mirror.wait_s() == 0
