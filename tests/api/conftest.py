"""Running public applications for the tests of the interface."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer

from service.api import keys
from service.app import create_app
from service.flows.importing import read_definitions
from tests.support.gate import FLOWS, ROOMY, Gate, OpenGate
from tests.support.house import API_KEY, house_settings
from tests.support.sandbox import running_sandbox
from tests.support.servers import Servers


@pytest.fixture
async def open_gate(servers: Servers) -> AsyncIterator[OpenGate]:
    """Makes running applications, on fresh servers unless told otherwise.

    Sections of the settings may be changed by name.
    """
    async with AsyncExitStack() as stack:

        async def make(
            *,
            database_url: str | None = None,
            redis_url: str | None = None,
            flows: Path | None = FLOWS,
            **sections: dict[str, Any],
        ) -> Gate:
            if database_url is None:
                database_url = stack.enter_context(servers.cloned_database())
            if redis_url is None:
                servers.flush()
                redis_url = servers.redis_url
            sandbox = await stack.enter_async_context(running_sandbox(api_key=API_KEY))
            sections["limits"] = {**ROOMY, **sections.get("limits", {})}
            settings = house_settings(database_url, redis_url, sandbox.url, **sections)
            app = await create_app(settings)
            client = TestClient(TestServer(app))
            stack.push_async_callback(client.close)
            await client.start_server()
            if flows is not None:
                await app[keys.CATALOG].store(read_definitions(flows))
            return Gate(client, app, sandbox.sandbox, database_url)

        yield make


@pytest.fixture
async def gate(open_gate: OpenGate) -> Gate:
    """One running application with roomy limits."""
    return await open_gate()
