"""Row for row the retry table of a create; the sandbox's books say how many payments there are."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta

import pytest
from aiohttp import web

from scripts.sandbox import documents
from scripts.sandbox.agents import Agent
from scripts.sandbox.replies import failure, success
from service.breaker.models import Outcome
from service.deadline import CURRENT, Deadline
from service.errors import (
    CircuitOpen,
    DeadlineExceeded,
    PaymentBusy,
    PaymentMisconfigured,
    PaymentOutcomeUnknown,
    PaymentRejected,
    PaymentUnavailable,
)
from service.payments.gateway import PaymentGateway
from service.payments.models import V2, Fund
from tests.support.payments import GatewayFactory, RecordingBreaker, new_order, until
from tests.support.sandbox import AGENT, RunningSandbox, free_port, running_sandbox, served

CREATE = "POST /payment"
LIST = "GET /payment"


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


@pytest.mark.parametrize("kind", ["reset", "bad-json"])
async def test_lost_answer_is_found_again_and_not_paid_twice(
    kind: str, gateway: PaymentGateway, sandbox: RunningSandbox, breaker: RecordingBreaker
) -> None:
    sandbox.fault(kind, CREATE, when="after", times=1)
    order = new_order()
    payment = await gateway.create(order)
    (record,) = sandbox.records
    assert payment.id == record.id
    assert sandbox.calls(CREATE) == 1
    assert breaker.outcomes[0] is Outcome.FAIL


@pytest.mark.parametrize("status", [500, 502, 503, 504])
async def test_server_error_after_the_commit_is_found_again(
    status: int, gateway: PaymentGateway, sandbox: RunningSandbox
) -> None:
    sandbox.fault("status", CREATE, when="after", status=status, times=1)
    payment = await gateway.create(new_order())
    (record,) = sandbox.records
    assert payment.id == record.id
    assert sandbox.calls(CREATE) == 1


async def test_answer_that_never_comes_is_found_again(
    make_gateway: GatewayFactory, sandbox: RunningSandbox
) -> None:
    gateway = await make_gateway(sandbox.url, attempt_timeout=1.0, connect_timeout=0.5)
    sandbox.fault("hang", CREATE, when="after", times=1)
    payment = await gateway.create(new_order())
    (record,) = sandbox.records
    assert payment.id == record.id


async def test_payment_of_the_second_contract_is_found_again(
    gateway: PaymentGateway, sandbox: RunningSandbox
) -> None:
    sandbox.fault("reset", CREATE, when="after", times=1)
    order = new_order(payment_source_type=V2, supported_payment_source_index=0)
    payment = await gateway.create(order)
    assert [record.id for record in sandbox.records] == [payment.id]


async def test_complete_500_without_a_payment_is_asked_again(
    gateway: PaymentGateway, sandbox: RunningSandbox, breaker: RecordingBreaker
) -> None:
    sandbox.fault("status", CREATE, status=500, times=1)
    payment = await gateway.create(new_order())
    await gateway.close()
    assert [record.id for record in sandbox.records] == [payment.id]
    assert sandbox.calls(CREATE) == 2
    assert sandbox.calls(LIST) == 1
    assert breaker.outcomes == [Outcome.FAIL, Outcome.OK, Outcome.OK]


async def test_500_that_stays_ends_in_a_certain_error(
    gateway: PaymentGateway, sandbox: RunningSandbox
) -> None:
    sandbox.fault("status", CREATE, status=500)
    with pytest.raises(PaymentUnavailable):
        await gateway.create(new_order())
    assert sandbox.records == []
    assert sandbox.calls(CREATE) == 3


@pytest.mark.parametrize(
    "fault",
    [{"kind": "reset"}, {"kind": "status", "status": 502}, {"kind": "status", "status": 504}],
)
async def test_unclear_create_is_left_open_rather_than_sent_again(
    fault: dict[str, object], gateway: PaymentGateway, sandbox: RunningSandbox
) -> None:
    """It may still be under way where we cannot see it: the job loop looks again later."""
    sandbox.fault(route=CREATE, times=1, **fault)  # type: ignore[arg-type]
    with pytest.raises(PaymentOutcomeUnknown):
        await gateway.create(new_order())
    assert sandbox.calls(CREATE) == 1
    assert sandbox.calls(LIST) == 2


async def test_unclear_create_stays_open_when_the_list_cannot_be_read(
    gateway: PaymentGateway, sandbox: RunningSandbox
) -> None:
    sandbox.fault("status", CREATE, status=500, when="after", times=1)
    sandbox.fault("status", LIST, status=500)
    with pytest.raises(PaymentOutcomeUnknown):
        await gateway.create(new_order())
    assert len(sandbox.records) == 1
    assert sandbox.calls(CREATE) == 1


async def test_circuit_that_opens_before_the_search_leaves_the_outcome_open(
    gateway: PaymentGateway, sandbox: RunningSandbox, breaker: RecordingBreaker
) -> None:
    async def trip() -> None:
        breaker.open = True

    breaker.after_report = trip
    sandbox.fault("reset", CREATE, when="after", times=1)
    with pytest.raises(PaymentOutcomeUnknown):
        await gateway.create(new_order())
    assert len(sandbox.records) == 1


async def test_create_never_rides_on_a_kept_connection(make_gateway: GatewayFactory) -> None:
    """One that is being closed just then would leave its outcome unknown."""
    ports: list[int] = []

    async def refuse(request: web.Request) -> web.Response:
        assert request.transport is not None
        ports.append(request.transport.get_extra_info("peername")[1])
        return failure(404, "Not found")

    app = web.Application()
    app.router.add_route("*", "/{any:.*}", refuse)
    async with served(app) as url:
        gateway = await make_gateway(url)
        for _ in range(2):
            await gateway.resolve("00ff")
        for _ in range(2):
            with pytest.raises(PaymentRejected):
                await gateway.create(new_order())
    resolved, created = ports[:2], ports[2:]
    assert len(set(resolved)) == 1
    assert len({*resolved, *created}) == 3


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


async def test_conflict_is_read_back(gateway: PaymentGateway, sandbox: RunningSandbox) -> None:
    sandbox.fault("status", CREATE, status=409, when="after", times=1)
    payment = await gateway.create(new_order())
    assert [record.id for record in sandbox.records] == [payment.id]
    assert sandbox.calls(CREATE) == 1


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


async def test_our_own_short_deadline_does_not_blame_the_service(
    make_gateway: GatewayFactory, sandbox: RunningSandbox, breaker: RecordingBreaker
) -> None:
    gateway: PaymentGateway = await make_gateway(sandbox.url)
    sandbox.fault("hang", CREATE)
    token = CURRENT.set(Deadline.after(2.3))
    try:
        with pytest.raises(PaymentOutcomeUnknown):
            await gateway.create(new_order())
    finally:
        CURRENT.reset(token)
    assert breaker.outcomes == [Outcome.NEUTRAL]


async def test_attempt_that_times_out_blames_the_service(
    make_gateway: GatewayFactory, sandbox: RunningSandbox, breaker: RecordingBreaker
) -> None:
    gateway: PaymentGateway = await make_gateway(
        sandbox.url, attempt_timeout=1.0, connect_timeout=0.5
    )
    sandbox.fault("hang", CREATE)
    with pytest.raises(PaymentOutcomeUnknown):
        await gateway.create(new_order())
    assert breaker.outcomes[0] is Outcome.FAIL


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


async def test_answer_about_another_job_is_not_believed(
    make_gateway: GatewayFactory, gateway: PaymentGateway, sandbox: RunningSandbox
) -> None:
    """A proxy that mixes up or replays answers must not tie a job to a stranger's payment."""
    await gateway.create(new_order())
    (record,) = sandbox.records

    async def replay(_: web.Request) -> web.Response:
        return success(documents.payment(record, record.now))

    async def nothing(_: web.Request) -> web.Response:
        return success({"Payments": []})

    app = web.Application()
    app.router.add_post("/api/v1/payment", replay)
    app.router.add_get("/api/v1/payment", nothing)
    async with served(app) as url:
        replayed = await make_gateway(url)
        with pytest.raises(PaymentOutcomeUnknown):
            await replayed.create(new_order())


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
