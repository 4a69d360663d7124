"""A gateway in front of a running sandbox; waits between attempts made short."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from service.payments import gateway as gateway_module
from service.payments import retry
from service.payments.client import PaymentClient
from service.payments.gateway import PaymentGateway
from service.payments.guard import CircuitBreaker
from tests.support.payments import GatewayFactory, RecordingBreaker, payment_settings
from tests.support.sandbox import RunningSandbox, running_sandbox


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "FIRST_WAIT_S", 0.02)
    monkeypatch.setattr(retry, "RETRY_AFTER_MARGIN_S", 0.02)
    monkeypatch.setattr(gateway_module, "SEARCH_PAUSE_S", 0.05)


@pytest.fixture
async def sandbox() -> AsyncIterator[RunningSandbox]:
    async with running_sandbox() as running:
        yield running


@pytest.fixture
def breaker() -> RecordingBreaker:
    return RecordingBreaker()


@pytest.fixture
async def make_gateway(breaker: RecordingBreaker) -> AsyncIterator[GatewayFactory]:
    """Gateways for any address, with any settings of the section."""
    async with AsyncExitStack() as stack:

        async def make(
            url: str, *, breaker: CircuitBreaker = breaker, **settings: object
        ) -> PaymentGateway:
            section = payment_settings(url, **settings)
            client = PaymentClient(section)
            await client.open()
            stack.push_async_callback(client.close)
            made = PaymentGateway(client, breaker, section)
            stack.push_async_callback(made.close)
            return made

        yield make


@pytest.fixture
async def gateway(make_gateway: GatewayFactory, sandbox: RunningSandbox) -> PaymentGateway:
    return await make_gateway(sandbox.url)
