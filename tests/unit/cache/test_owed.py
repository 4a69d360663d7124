from __future__ import annotations

import asyncio

import pytest

from service.cache.owed import TOLD_AT_ONCE, Owed
from service.deadline import CURRENT, Deadline, remaining_s
from service.errors import DeadlineExceeded, StoreUnavailable
from tests.support.waiting import until


class Redis:
    """Is told, or is away."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []
        self.error: Exception | None = None
        self.open = asyncio.Event()
        self.open.set()
        self.most = self._now = 0

    async def __call__(self, key: str, change: str) -> None:
        self._now += 1
        self.most = max(self.most, self._now)
        try:
            left_s = remaining_s()
            if left_s is not None and left_s < 0:
                raise DeadlineExceeded
            await self.open.wait()
            await asyncio.sleep(0)
            if self.error:
                raise self.error
            self.told.append((key, change))
        finally:
            self._now -= 1


async def until_paid(owed: Owed) -> None:
    await until(lambda: not owed)


async def test_all_are_told_not_too_many_at_once() -> None:
    redis = Redis()
    owed = Owed(redis, name="flow")
    await owed.tell([f"k{number}" for number in range(50)], "7")
    assert redis.told == [(f"k{number}", "7") for number in range(50)]
    assert (len(owed), redis.most) == (0, TOLD_AT_ONCE)


async def test_what_could_not_be_told_is_told_later_by_itself() -> None:
    redis = Redis()
    owed = Owed(redis, name="flow")
    redis.error = StoreUnavailable()
    await owed.tell(["a", "b"], "7")
    assert len(owed) == 2
    assert "a" in owed
    redis.error = None
    await until_paid(owed)
    assert sorted(redis.told) == [("a", "7"), ("b", "7")]
    await owed.close()


async def test_it_does_not_end_with_the_request_that_began_it() -> None:
    redis = Redis()
    owed = Owed(redis, name="flow")
    CURRENT.set(Deadline.after(-1))
    await owed.tell(["a"], "7")
    CURRENT.set(None)
    redis.open.clear()
    gone = asyncio.create_task(owed.tell(["b"], "8"))
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)
    assert len(owed) == 2
    redis.open.set()
    await until_paid(owed)
    assert sorted(redis.told) == [("a", "7"), ("b", "8")]
    await owed.close()


async def test_a_later_change_is_not_paid_for_with_an_earlier_one() -> None:
    redis = Redis()
    owed = Owed(redis, name="flow")
    redis.open.clear()
    first = asyncio.create_task(owed.tell(["a"], ""))
    await asyncio.sleep(0)
    redis.error = StoreUnavailable()
    second = asyncio.create_task(owed.tell(["a"], ""))
    await asyncio.sleep(0)
    redis.open.set()
    await asyncio.gather(first, second)
    assert len(owed) == 1
    redis.error = None
    redis.open.clear()
    settling = asyncio.create_task(owed.settle("a"))
    await asyncio.sleep(0)
    third = asyncio.create_task(owed.tell(["a"], ""))
    await asyncio.sleep(0)
    third.cancel()
    redis.open.set()
    await asyncio.gather(settling, third, return_exceptions=True)
    assert len(owed) == 1
    await until_paid(owed)
    await owed.close()


async def test_a_bug_is_not_taken_for_an_outage() -> None:
    redis = Redis()
    owed = Owed(redis, name="flow")
    redis.error = KeyError("a bug")
    with pytest.raises(KeyError):
        await owed.tell(["a"], "")
    await owed.close()
