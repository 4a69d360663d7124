"""A create whose outcome is certain, row for row of the retry table: made, refused, not sent.

The sandbox's books say how many payments there are.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta

import pytest
from aiohttp import web

from scripts.sandbox import documents
from scripts.sandbox.agents import Agent
from scripts.sandbox.replies import success
from service.breaker.models import Outcome
from service.deadline import CURRENT, Deadline
from service.errors import (
    CircuitOpen,
    DeadlineExceeded,
    PaymentBusy,
    PaymentMisconfigured,
    PaymentRejected,
    PaymentUnavailable,
)
from service.payments.gateway import PaymentGateway
from service.payments.guard import DEFAULT_PAUSE_S
from service.payments.models import V2, Fund
from tests.support.payments import (
    CREATE,
    LIST,
    GatewayFactory,
    RecordingBreaker,
    new_order,
)
from tests.support.sandbox import AGENT, RunningSandbox, free_port, running_sandbox, served
from tests.support.waiting import until


async def test_payment_carries_the_job_and_every_field_a_purchaser_needs(
    gateway: PaymentGateway, sandbox: RunningSandbox
) -> None:
    order = new_order()
    payment = await gateway.create(order)
    (record,) = sandbox.records
    assert payment.metadata == record.terms.metadata == str(order.job_id)
    assert payment.blockchain_identifier == record.blockchain_identifier
    assert payment.agent_identifier == AGENT
    assert payment.pay_by_time_ms == record.terms.pay_by_ms
    assert payment.submit_result_time_ms == record.terms.submit_result_ms
    assert payment.unlock_time_ms == record.terms.unlock_ms
    assert payment.external_dispute_unlock_time_ms == record.terms.dispute_ms
    assert payment.payable
    assert payment.on_chain_state is None


async def test_times_arrive_to_the_millisecond(
    gateway: PaymentGateway, sandbox: RunningSandbox
) -> None:
    pay_by = datetime.now(UTC).replace(microsecond=7_000) + timedelta(minutes=20)
    payment = await gateway.create(new_order(pay_by=pay_by))
    assert payment.pay_by_time_ms == round(pay_by.timestamp() * 1000)
    assert payment.pay_by_time_ms % 1000 == 7


async def test_dynamic_price_and_second_contract_are_sent(
    gateway: PaymentGateway, sandbox: RunningSandbox
) -> None:
    sandbox.sandbox.agents.put(AGENT, Agent(pricing="Dynamic", source_type=V2))
    order = new_order(
        requested_funds=(Fund("2500000", "lovelace"),),
        payment_source_type=V2,
        supported_payment_source_index=1,
    )
    payment = await gateway.create(order)
    (record,) = sandbox.records
    assert payment.payment_source_type == V2
    assert record.terms.funds == (("2500000", ""),)
    assert record.terms.source_index == 1


async def test_refused_connection_is_tried_again(
    make_gateway: GatewayFactory, breaker: RecordingBreaker
) -> None:
    """Nothing can have been sent, so the service that comes back meanwhile is simply asked."""
    port = free_port()
    gateway: PaymentGateway = await make_gateway(f"http://127.0.0.1:{port}")
    async with AsyncExitStack() as stack:
        started: list[RunningSandbox] = []

        async def start() -> None:
            if not started:
                started.append(await stack.enter_async_context(running_sandbox(port)))

        breaker.after_report = start
        payment = await gateway.create(new_order())
        assert [record.id for record in started[0].records] == [payment.id]
        await gateway.close()
    assert breaker.outcomes == [Outcome.FAIL, Outcome.OK]


async def test_service_that_stays_away_is_unavailable_after_three_attempts(
    make_gateway: GatewayFactory, breaker: RecordingBreaker
) -> None:
    gateway: PaymentGateway = await make_gateway(f"http://127.0.0.1:{free_port()}")
    with pytest.raises(PaymentUnavailable) as caught:
        await gateway.create(new_order())
    assert type(caught.value) is PaymentUnavailable
    assert breaker.outcomes == [Outcome.FAIL] * 3


@pytest.mark.parametrize(
    ("change", "agent"),
    [
        ({"input_hash": "xyz"}, Agent()),
        ({"identifier_from_purchaser": "short"}, Agent()),
        ({}, Agent(trouble="missing")),
        ({}, Agent(pricing="Dynamic")),
    ],
)
async def test_refusal_is_final(
    change: dict[str, object],
    agent: Agent,
    gateway: PaymentGateway,
    sandbox: RunningSandbox,
    breaker: RecordingBreaker,
) -> None:
    sandbox.sandbox.agents.put(AGENT, agent)
    with pytest.raises(PaymentRejected) as caught:
        await gateway.create(new_order(**change))
    assert not caught.value.retryable
    assert sandbox.calls(CREATE) == 1
    assert breaker.outcomes == [Outcome.OK]


@pytest.mark.parametrize("status", [401, 403])
async def test_refused_key_is_the_configurations_fault(
    status: int, gateway: PaymentGateway, sandbox: RunningSandbox, breaker: RecordingBreaker
) -> None:
    sandbox.fault("status", CREATE, status=status)
    with pytest.raises(PaymentMisconfigured):
        await gateway.create(new_order())
    assert sandbox.calls(CREATE) == 1
    assert breaker.outcomes == [Outcome.NEUTRAL]


async def test_throttled_create_waits_as_told_and_pauses_the_fleet(
    gateway: PaymentGateway, sandbox: RunningSandbox, breaker: RecordingBreaker
) -> None:
    sandbox.fault("status", CREATE, status=429, retry_after="1", times=1)
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    payment = await gateway.create(new_order())
    assert loop.time() - began_s >= 1.0
    assert [record.id for record in sandbox.records] == [payment.id]
    assert sandbox.calls(LIST) == 0
    assert breaker.outcomes[0] is Outcome.NEUTRAL
    assert breaker.pauses == [1.0]


@pytest.mark.parametrize(
    "nonsense", ["soon", "-9999 Jan 00:00:00 99999999999999999999 GMT", "999999999"]
)
async def test_throttled_create_told_nonsense_waits_the_usual_time(
    gateway: PaymentGateway,
    sandbox: RunningSandbox,
    breaker: RecordingBreaker,
    nonsense: str,
) -> None:
    sandbox.fault("status", CREATE, status=429, retry_after=nonsense, times=1)
    payment = await gateway.create(new_order())
    assert [record.id for record in sandbox.records] == [payment.id]
    assert breaker.pauses == [DEFAULT_PAUSE_S]


async def test_overload_with_a_time_to_come_back_is_waited_for(
    gateway: PaymentGateway, sandbox: RunningSandbox
) -> None:
    sandbox.fault("status", CREATE, status=503, retry_after="1", times=1)
    payment = await gateway.create(new_order())
    assert [record.id for record in sandbox.records] == [payment.id]
    assert sandbox.calls(CREATE) == 2
    assert sandbox.calls(LIST) == 1


async def test_wait_longer_than_the_call_is_not_begun(
    gateway: PaymentGateway, sandbox: RunningSandbox
) -> None:
    sandbox.fault("status", CREATE, status=429, retry_after="600", times=1)
    with pytest.raises(PaymentUnavailable) as caught:
        await gateway.create(new_order())
    assert caught.value.retry_after_s == 600
    assert sandbox.calls(CREATE) == 1


async def test_open_circuit_ends_it_before_anything_is_sent(
    gateway: PaymentGateway, sandbox: RunningSandbox, breaker: RecordingBreaker
) -> None:
    breaker.open = True
    with pytest.raises(CircuitOpen) as caught:
        await gateway.create(new_order())
    assert caught.value.retry_after_s == 30.0
    assert sandbox.calls(CREATE) == 0


async def test_full_bulkhead_refuses_at_once_and_takes_no_permit(
    make_gateway: GatewayFactory, sandbox: RunningSandbox, breaker: RecordingBreaker
) -> None:
    gateway: PaymentGateway = await make_gateway(sandbox.url, bulkhead=1)
    sandbox.fault("hang", CREATE, times=1)
    first = asyncio.create_task(gateway.create(new_order()))
    await until(lambda: sandbox.calls(CREATE) == 1)
    with pytest.raises(PaymentBusy):
        await gateway.create(new_order())
    assert breaker.granted == 1
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    await gateway.create(new_order())
    assert gateway.in_flight == 0


async def test_too_little_time_left_sends_nothing(
    gateway: PaymentGateway, sandbox: RunningSandbox
) -> None:
    token = CURRENT.set(Deadline.after(1.5))
    try:
        with pytest.raises(DeadlineExceeded):
            await gateway.create(new_order())
    finally:
        CURRENT.reset(token)
    assert sandbox.calls(CREATE) == 0


async def test_cancelled_create_gives_its_permit_back(
    gateway: PaymentGateway, sandbox: RunningSandbox, breaker: RecordingBreaker
) -> None:
    sandbox.fault("hang", CREATE)
    task = asyncio.create_task(gateway.create(new_order()))
    await until(lambda: sandbox.calls(CREATE) == 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await gateway.close()
    assert breaker.outcomes == [Outcome.NEUTRAL]


async def test_permit_granted_to_a_cancelled_call_is_given_back(
    gateway: PaymentGateway, sandbox: RunningSandbox, breaker: RecordingBreaker
) -> None:
    asked, grant = asyncio.Event(), asyncio.Event()

    async def wait() -> None:
        asked.set()
        await grant.wait()

    breaker.before_acquire = wait
    task = asyncio.create_task(gateway.create(new_order()))
    await asked.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    grant.set()
    await gateway.close()
    assert breaker.granted == 1
    assert breaker.outcomes == [Outcome.NEUTRAL]
    assert sandbox.calls(CREATE) == 0


async def test_payment_nobody_can_pay_is_refused(
    make_gateway: GatewayFactory, gateway: PaymentGateway, sandbox: RunningSandbox
) -> None:
    """Without a selling wallet the purchaser's side cannot check the signature."""
    order = new_order()
    await gateway.create(order)
    (record,) = sandbox.records
    document = documents.listed(record, record.now, history=False) | {"SmartContractWallet": None}

    async def one(_: web.Request) -> web.Response:
        return success(document)

    async def listed(_: web.Request) -> web.Response:
        return success({"Payments": [document]})

    app = web.Application()
    app.router.add_post("/api/v1/payment", one)
    app.router.add_get("/api/v1/payment", listed)
    async with served(app) as url:
        odd = await make_gateway(url)
        with pytest.raises(PaymentRejected):
            await odd.create(order)
