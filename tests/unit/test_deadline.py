"""One budget for a request, and none outside of one."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from service.deadline import (
    CURRENT,
    HEADER,
    Deadline,
    at_most,
    instead,
    outbound,
    remaining_s,
    shortened,
    within,
)
from service.errors import DeadlineExceeded


@contextmanager
def budget(seconds: float) -> Iterator[None]:
    token = CURRENT.set(Deadline.after(seconds))
    try:
        yield
    finally:
        CURRENT.reset(token)


def test_without_a_request_the_own_limit_holds() -> None:
    assert remaining_s() is None
    assert at_most(7.0) == 7.0
    assert at_most(7.0, floor_s=100.0) == 7.0


def test_the_smaller_of_own_limit_and_budget_holds() -> None:
    with budget(60):
        assert at_most(7.0) == 7.0
        assert 50 < at_most(100.0) <= 60


def test_what_cannot_finish_is_not_begun() -> None:
    with budget(1), pytest.raises(DeadlineExceeded):
        at_most(7.0, floor_s=2.0)
    with budget(-1), pytest.raises(DeadlineExceeded):
        at_most(7.0)


def test_remaining_time_is_negative_once_it_has_passed() -> None:
    with budget(-5):
        left_s = remaining_s()
    assert left_s is not None
    assert left_s < 0


async def test_every_task_keeps_the_budget_of_its_own_request() -> None:
    async def request(seconds: float) -> float:
        with budget(seconds):
            child = asyncio.create_task(inner())
            await asyncio.sleep(0)
            return await child

    async def inner() -> float:
        await asyncio.sleep(0)
        return at_most(1000.0)

    short, long = await asyncio.gather(request(20), request(200))
    assert short <= 20
    assert 100 < long <= 200
    assert remaining_s() is None


def test_own_limit_within_a_budget_only_shortens() -> None:
    with budget(20), within(100):
        assert at_most(1000.0) <= 20
    with budget(200), within(100):
        assert 50 < at_most(1000.0) <= 100
    with within(100):
        assert 50 < at_most(1000.0) <= 100
    assert remaining_s() is None


def test_what_must_be_finished_has_time_of_its_own_and_gives_the_old_budget_back() -> None:
    with budget(-5):
        with instead(10):
            assert 5 < at_most(1000.0) <= 10
        with pytest.raises(DeadlineExceeded):
            at_most(1000.0)


def test_outbound_budget_is_what_is_left_in_milliseconds_and_at_least_one() -> None:
    assert outbound(7.0) == {HEADER: "7000"}
    with budget(5):
        assert 4000 < int(outbound(7.0)[HEADER]) <= 5000
    with budget(-5):
        assert outbound(7.0) == {HEADER: "1"}


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (None, 30.0),
        ("5000", 5.0),
        (" 250 ", 0.25),
        ("1", 0.001),
        ("60000", 30.0),
        ("999999999", 30.0),
        ("0", 30.0),
        ("", 30.0),
        ("-5", 30.0),
        ("1e3", 30.0),
        ("5.5", 30.0),
        ("1_000", 30.0),
        ("٥٠٠٠", 30.0),
        ("9" * 10, 30.0),
    ],
)
def test_client_may_only_shorten_its_budget(asked: str | None, expected: float) -> None:
    assert shortened(30.0, asked) == expected
