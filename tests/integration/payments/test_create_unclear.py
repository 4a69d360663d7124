"""A create whose outcome is unclear, row for row of the retry table: cleared up or left open.

The sandbox's books say how many payments there are.
"""

from __future__ import annotations

import pytest
from aiohttp import web

from scripts.sandbox import documents
from scripts.sandbox.replies import failure, success
from service.breaker.models import Outcome
from service.deadline import CURRENT, Deadline
from service.errors import PaymentOutcomeUnknown, PaymentRejected, PaymentUnavailable
from service.payments.gateway import PaymentGateway
from service.payments.models import V2
from tests.support.payments import CREATE, LIST, GatewayFactory, RecordingBreaker, new_order
from tests.support.sandbox import RunningSandbox, served


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


async def test_conflict_is_read_back(gateway: PaymentGateway, sandbox: RunningSandbox) -> None:
    sandbox.fault("status", CREATE, status=409, when="after", times=1)
    payment = await gateway.create(new_order())
    assert [record.id for record in sandbox.records] == [payment.id]
    assert sandbox.calls(CREATE) == 1


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
