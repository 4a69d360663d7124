"""The gateway with the real breaker on a real server: what workers share, they share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from service.breaker.breaker import Breaker
from service.errors import CircuitOpen, PaymentBusy, PaymentUnavailable
from service.settings import BreakerSettings
from service.store.client import Store
from tests.support.payments import GatewayFactory, new_order
from tests.support.sandbox import RunningSandbox
from tests.support.waiting import until

CREATE = "POST /payment"


@pytest.fixture
async def make_breaker(store: Store) -> AsyncIterator[Callable[..., Awaitable[Breaker]]]:
    made: list[Breaker] = []

    async def make(**settings: float | str) -> Breaker:
        breaker = Breaker("payment", BreakerSettings(**settings), store)  # type: ignore[arg-type]
        made.append(breaker)
        return breaker

    yield make
    for breaker in made:
        await breaker.close()


async def test_three_failures_of_one_worker_stop_the_other(
    make_breaker: Callable[..., Awaitable[Breaker]],
    make_gateway: GatewayFactory,
    sandbox: RunningSandbox,
) -> None:
    one = await make_gateway(sandbox.url, breaker=await make_breaker())
    other = await make_gateway(sandbox.url, breaker=await make_breaker())
    sandbox.fault("status", "POST /payment/resolve-blockchain-identifier", status=503)
    with pytest.raises(PaymentUnavailable):
        await one.resolve("00ff")
    with pytest.raises(CircuitOpen) as caught:
        await other.create(new_order())
    assert caught.value.retry_after_s is not None
    assert 0 < caught.value.retry_after_s <= 33
    assert sandbox.calls(CREATE) == 0


async def test_counted_by_request_only_different_ones_open_it(
    make_breaker: Callable[..., Awaitable[Breaker]],
    make_gateway: GatewayFactory,
    sandbox: RunningSandbox,
) -> None:
    breaker = await make_breaker(count="requests")
    gateway = await make_gateway(sandbox.url, breaker=breaker, attempts=2)
    sandbox.fault("status", "POST /payment/resolve-blockchain-identifier", status=503)
    for identifier, streak in (("00aa", 1), ("00aa", 1), ("00bb", 2)):
        with pytest.raises(PaymentUnavailable):
            await gateway.resolve(identifier)
        assert (await breaker.snapshot()).streak == streak
    with pytest.raises((PaymentUnavailable, CircuitOpen)):
        await gateway.resolve("00cc")
    assert (await breaker.snapshot()).state == "open"


async def test_refusals_never_open_it(
    make_breaker: Callable[..., Awaitable[Breaker]],
    make_gateway: GatewayFactory,
    sandbox: RunningSandbox,
) -> None:
    gateway = await make_gateway(sandbox.url, breaker=await make_breaker())
    for _ in range(6):
        assert await gateway.resolve("00ff") is None
    await gateway.create(new_order())


async def test_cancelled_and_crowded_out_probes_leave_the_probe_to_the_next(
    make_breaker: Callable[..., Awaitable[Breaker]],
    make_gateway: GatewayFactory,
    sandbox: RunningSandbox,
) -> None:
    """The lease outlasts this test: only a permit given back lets the last call through."""
    breaker = await make_breaker(recovery_seconds=0.5, probe_lease_seconds=600)
    gateway = await make_gateway(sandbox.url, breaker=breaker, bulkhead=1)
    sandbox.fault("status", "POST /payment/resolve-blockchain-identifier", status=503)
    with pytest.raises(PaymentUnavailable):
        await gateway.resolve("00ff")
    sandbox.heal()
    sandbox.fault("hang", CREATE, times=1)
    await asyncio.sleep(0.7)  # longer than the circuit stays open
    probe = asyncio.create_task(gateway.create(new_order()))
    await until(lambda: sandbox.calls(CREATE) == 1)
    assert (await breaker.snapshot()).state == "half-open"
    with pytest.raises(PaymentBusy):
        await gateway.create(new_order())
    probe.cancel()
    await asyncio.gather(probe, return_exceptions=True)
    await gateway.close()
    await gateway.create(new_order())
    await gateway.close()
    assert (await breaker.snapshot()).state == "closed"
