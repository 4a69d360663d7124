"""Opened runners, and the secrets their environment holds."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from service.runners.runners import Runners


@pytest.fixture
async def runners() -> AsyncIterator[Runners]:
    opened = Runners(
        environment={"RUNNER_TOKEN": "s3cret\n", "EMPTY_TOKEN": " ", "SPLIT_TOKEN": "a\r\nHost: b"}
    )
    await opened.open()
    yield opened
    await opened.close()
