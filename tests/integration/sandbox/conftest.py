from __future__ import annotations

from collections.abc import AsyncIterator

import aiohttp
import pytest

from tests.support.sandbox import Http, RunningSandbox, running_sandbox


@pytest.fixture
async def sandbox() -> AsyncIterator[RunningSandbox]:
    async with running_sandbox(read_key="reader") as running:
        yield running


@pytest.fixture
async def http(sandbox: RunningSandbox) -> AsyncIterator[Http]:
    async with aiohttp.ClientSession() as session:
        yield Http(session, sandbox.url, "sandbox")
