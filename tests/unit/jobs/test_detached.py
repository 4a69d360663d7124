"""Work goes on without its caller, tells the log how it ended, and is waited for."""

from __future__ import annotations

import asyncio

import pytest
from structlog.testing import capture_logs

from service.errors import DatabaseUnavailable
from service.jobs.detached import Detached

NEVER_S = 3600.0


async def test_caller_gets_the_outcome_or_the_failure() -> None:
    detached = Detached()

    async def work() -> int:
        return 7

    async def failing() -> int:
        raise DatabaseUnavailable

    assert await detached.finish(work(), name="w") == 7
    with pytest.raises(DatabaseUnavailable):
        await detached.finish(failing(), name="w")


@pytest.mark.parametrize(
    ("error", "event"),
    [
        (None, "work_finished_alone"),
        (DatabaseUnavailable(), "work_failed_alone"),
        (ZeroDivisionError(), "work_crashed_alone"),
    ],
)
async def test_work_goes_on_without_its_caller(error: Exception | None, event: str) -> None:
    detached, go, done = Detached(), asyncio.Event(), asyncio.Event()

    async def work() -> None:
        await go.wait()
        done.set()
        if error:
            raise error

    with capture_logs() as lines:
        caller = asyncio.create_task(detached.finish(work(), name="w"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
        assert repr(detached) == "<Detached 1>"
        go.set()
        await detached.close(within_s=NEVER_S)
        await asyncio.sleep(0)
    assert done.is_set()
    assert repr(detached) == "<Detached 0>"
    assert [line["event"] for line in lines] == ["caller_left", event]


async def test_closing_cuts_off_what_takes_too_long() -> None:
    detached = Detached()
    caller = asyncio.create_task(detached.finish(asyncio.sleep(NEVER_S), name="w"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    await detached.close(within_s=0.0)
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert repr(detached) == "<Detached 0>"
