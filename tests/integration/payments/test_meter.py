"""What the metrics say about calls to the payment service."""

from __future__ import annotations

import asyncio

import pytest
from prometheus_client import CollectorRegistry

from service.errors import DependencyError
from service.metrics import Metrics
from service.payments.client import PaymentClient
from service.payments.gateway import PaymentGateway
from tests.support.payments import RecordingBreaker, new_order, payment_settings
from tests.support.sandbox import RunningSandbox
from tests.support.waiting import until

CREATE = "POST /payment"


async def test_every_call_is_counted_by_its_outcome(
    sandbox: RunningSandbox, breaker: RecordingBreaker
) -> None:
    registry = CollectorRegistry()
    settings = payment_settings(sandbox.url, bulkhead=1)
    client = PaymentClient(settings)
    await client.open()
    gateway = PaymentGateway(client, breaker, settings, metrics=Metrics(registry))

    async def fail(**fault: object) -> None:
        if fault:
            sandbox.fault(route=CREATE, **fault)  # type: ignore[arg-type]
        with pytest.raises(DependencyError):
            await gateway.create(new_order())
        sandbox.heal()

    await gateway.create(new_order())
    await fail(kind="status", status=400)
    await fail(kind="status", status=500)
    await fail(kind="reset")
    sandbox.fault("hang", CREATE)
    hanging = asyncio.create_task(gateway.create(new_order()))
    await until(lambda: gateway.in_flight == 1)
    await fail()
    hanging.cancel()
    await asyncio.gather(hanging, return_exceptions=True)
    breaker.open = True
    await fail()
    await gateway.close()
    await client.close()

    counted = {
        outcome: registry.get_sample_value(
            "tollgate_payment_calls_total", {"operation": "create", "outcome": outcome}
        )
        for outcome in ("ok", "rejected", "unavailable", "unknown", "busy", "open")
    }
    assert counted == {
        "ok": 1,
        "rejected": 1,
        "unavailable": 1,
        "unknown": 2,  # the reset one and the cancelled one
        "busy": 1,
        "open": 1,
    }
    timed = registry.get_sample_value(
        "tollgate_payment_call_seconds_count", {"operation": "create"}
    )
    assert timed == 7
