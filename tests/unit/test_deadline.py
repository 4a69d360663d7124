"""One budget for a request, and none outside of one."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from service.deadline import CURRENT, Deadline, at_most, remaining_s
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
