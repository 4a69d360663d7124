"""Collaborators on the real servers, closed when the test is over."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import pytest

from service.settings import RedisSettings
from service.store.client import Store


@pytest.fixture
async def open_store() -> AsyncIterator[Callable[..., Awaitable[Store]]]:
    """Makes opened stores of any URL, with any settings of the section."""
    async with AsyncExitStack() as stack:

        async def make(url: str, **settings: float) -> Store:
            made = Store(RedisSettings(**settings), url=url)
            stack.push_async_callback(made.close)
            await made.open()
            return made

        yield make


@pytest.fixture
async def store(open_store: Callable[..., Awaitable[Store]], redis_url: str) -> Store:
    """On an empty server. The limit is generous: a busy machine is not an outage."""
    return await open_store(redis_url, timeout=5.0)
