"""A task that is to end does, whatever a library does with its first cancellation."""

from __future__ import annotations

import asyncio
import gc

import pytest

from service import tasks

NEVER_S = 3600.0


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "AGAIN_S", 0.01)


async def test_task_that_swallows_a_cancellation_is_cancelled_again() -> None:
    async def deaf() -> None:
        try:
            await asyncio.sleep(NEVER_S)
        except asyncio.CancelledError:
            await asyncio.sleep(NEVER_S)

    task = asyncio.create_task(deaf())
    await asyncio.sleep(0)
    async with asyncio.timeout(10):
        await tasks.end(task)
    assert task.cancelled()


async def test_finished_and_failing_tasks_are_no_trouble() -> None:
    async def fails() -> None:
        try:
            await asyncio.sleep(NEVER_S)
        finally:
            raise ZeroDivisionError

    done = asyncio.create_task(asyncio.sleep(0))
    await done
    failing = asyncio.create_task(fails())
    await asyncio.sleep(0)
    await tasks.end(done, failing)
    assert isinstance(failing.exception(), ZeroDivisionError)
    await tasks.end()


async def test_what_had_failed_before_its_end_is_nobodys_complaint() -> None:
    complaints: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))

    async def fail() -> None:
        raise ValueError

    task = asyncio.create_task(fail())
    await asyncio.wait({task})
    await tasks.end(task)
    del task
    gc.collect()
    assert complaints == []
