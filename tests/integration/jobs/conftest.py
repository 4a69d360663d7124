"""A house for each test: one worker's parts, a database of its own, and a sandbox."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest

from service.flows.definition import FlowDefinition
from tests.support.house import House, house


@pytest.fixture
async def make_house(
    database_url: str, redis_url: str
) -> AsyncIterator[Callable[..., Awaitable[House]]]:
    """Makes houses over the same servers, each with a sandbox of its own."""
    async with AsyncExitStack() as stack:

        async def make(*flows: FlowDefinition, **sections: dict[str, Any]) -> House:
            return await stack.enter_async_context(
                house(database_url, redis_url, *flows, **sections)
            )

        yield make


@pytest.fixture
async def home(make_house: Callable[..., Awaitable[House]]) -> House:
    return await make_house()
