from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

from service.cache.gate import LINE_PER_PLACE, LoadGate
from service.errors import DatabaseBusy


async def taking(gate: LoadGate, wait_s: float = 10.0) -> AsyncExitStack:
    """Takes a place; to be closed to give it back."""
    held = AsyncExitStack()
    await held.enter_async_context(gate.turn(wait_s))
    return held


async def waiting(
    gate: LoadGate, count: int, wait_s: float = 10.0
) -> list[asyncio.Task[AsyncExitStack]]:
    tasks = [asyncio.create_task(taking(gate, wait_s)) for _ in range(count)]
    await asyncio.sleep(0)
    return tasks


async def test_places_go_to_those_who_wait_in_their_order() -> None:
    gate = LoadGate(2)
    first, second = await taking(gate), await taking(gate)
    third, fourth = await waiting(gate, 2)
    await first.aclose()
    await asyncio.sleep(0)
    assert (third.done(), fourth.done()) == (True, False)
    await second.aclose()
    await (await third).aclose()
    await (await fourth).aclose()
    assert repr(gate) == "<LoadGate free=2 waiting=0 refused=0>"


async def test_who_has_waited_long_enough_is_refused() -> None:
    gate = LoadGate(1)
    held = await taking(gate)
    with pytest.raises(DatabaseBusy) as refused:
        await taking(gate, 0.01)
    assert refused.value.retry_after_s == 1.0
    with pytest.raises(DatabaseBusy):
        await taking(gate, 0.0)
    await held.aclose()
    await (await taking(gate, 0.0)).aclose()  # a free place is taken also without time to wait
    assert repr(gate) == "<LoadGate free=1 waiting=0 refused=2>"


async def test_the_line_has_an_end() -> None:
    gate = LoadGate(1)
    held = await taking(gate)
    line = await waiting(gate, LINE_PER_PLACE)
    with pytest.raises(DatabaseBusy):
        await asyncio.wait_for(taking(gate), 1)
    for task in line:
        task.cancel()
    await asyncio.gather(*line, return_exceptions=True)
    await held.aclose()
    assert repr(gate) == "<LoadGate free=1 waiting=0 refused=1>"


@pytest.mark.parametrize("cancelled_first", [True, False])
async def test_a_place_given_to_one_who_gives_up_is_not_lost(cancelled_first: bool) -> None:
    gate = LoadGate(1)
    held = await taking(gate)
    leaving, staying = await waiting(gate, 2)
    if cancelled_first:
        leaving.cancel()
        await held.aclose()
    else:
        await held.aclose()
        leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    await (await asyncio.wait_for(staying, 1)).aclose()
    assert repr(gate) == "<LoadGate free=1 waiting=0 refused=0>"


async def test_what_a_load_raises_gives_its_place_back() -> None:
    gate = LoadGate(1)
    with pytest.raises(KeyError):
        async with gate.turn(1):
            raise KeyError("a bug")
    await (await taking(gate, 0.0)).aclose()
