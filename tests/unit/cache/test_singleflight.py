from __future__ import annotations

import asyncio

import pytest
from structlog.testing import capture_logs

from service.cache.singleflight import SingleFlight
from service.deadline import CURRENT, Deadline, remaining_s
from service.errors import DatabaseUnavailable


class Loader:
    """Counts its calls and answers when ``release``d."""

    def __init__(self, error: Exception | None = None) -> None:
        self.calls = 0
        self.release = asyncio.Event()
        self.error = error
        self.seen_remaining_s: list[float | None] = []

    async def __call__(self) -> int:
        self.calls += 1
        self.seen_remaining_s.append(remaining_s())
        await self.release.wait()
        if self.error:
            raise self.error
        return self.calls


async def waiting(flight: SingleFlight[int], loader: Loader, count: int) -> list[asyncio.Task[int]]:
    tasks = [asyncio.create_task(flight.join("k", loader)) for _ in range(count)]
    await asyncio.sleep(0)
    return tasks


async def test_many_waiters_share_one_load_and_the_next_starts_another() -> None:
    flight, loader = SingleFlight[int](), Loader()
    tasks = await waiting(flight, loader, 50)
    loader.release.set()
    assert await asyncio.gather(*tasks) == [1] * 50
    assert await flight.join("k", loader) == 2
    assert len(flight) == 0


async def test_a_cancelled_leader_takes_nothing_from_the_others() -> None:
    flight, loader = SingleFlight[int](), Loader()
    leader, *others = await waiting(flight, loader, 5)
    leader.cancel()
    await asyncio.gather(leader, return_exceptions=True)
    loader.release.set()
    assert await asyncio.gather(*others) == [1] * 4
    assert leader.cancelled()


async def test_the_leaders_deadline_is_not_the_loads() -> None:
    flight, loader = SingleFlight[int](), Loader()
    loader.release.set()
    CURRENT.set(Deadline.after(-1))
    await flight.join("k", loader)
    CURRENT.set(None)
    assert loader.seen_remaining_s == [None]


async def test_an_error_is_every_waiters_and_nobody_elses() -> None:
    flight, loader = SingleFlight[int](), Loader(DatabaseUnavailable())
    tasks = await waiting(flight, loader, 3)
    loader.release.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(result) for result in results] == [DatabaseUnavailable] * 3
    loader.error = None
    assert await flight.join("k", loader) == 2


async def test_forgotten_load_serves_its_waiters_only() -> None:
    flight, old, new = SingleFlight[int](), Loader(), Loader()
    current: list[bool] = []

    async def tells_whether_current() -> int:
        result = await old()
        current.append(flight.is_current("k"))
        return result

    first = asyncio.create_task(flight.join("k", tells_whether_current))
    await asyncio.sleep(0)
    flight.forget("k")
    (second,) = await waiting(flight, new, 1)
    old.release.set()
    new.release.set()
    assert (await first, await second) == (1, 1)
    assert (old.calls, new.calls, current) == (1, 1, [False])


async def test_close_ends_what_is_in_flight() -> None:
    flight, loader = SingleFlight[int](), Loader()
    flight.begin("k", loader)
    await asyncio.sleep(0)
    assert len(flight) == 1
    await flight.close()
    assert len(flight) == 0


@pytest.mark.parametrize(
    ("error", "events"),
    [(DatabaseUnavailable(), []), (KeyError("a bug"), ["background_load_failed"])],
    ids=["expected", "surprise"],
)
async def test_a_load_nobody_waits_for_hides_no_bug(error: Exception, events: list[str]) -> None:
    flight, loader = SingleFlight[int](), Loader(error)
    loader.release.set()
    with capture_logs() as logs:
        for _ in range(3):  # one load, however often it is begun
            flight.begin("k", loader)
        for _ in range(5):
            await asyncio.sleep(0)
    assert [entry["event"] for entry in logs] == events
