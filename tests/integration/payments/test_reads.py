"""Finding, resolving, following: no row missed, no row taken for another."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
import structlog
from aiohttp import web

from scripts.sandbox import documents, life
from scripts.sandbox.records import Chain, Record
from scripts.sandbox.replies import success
from service.breaker.models import Outcome
from service.errors import PaymentMisconfigured, PaymentUnavailable
from service.payments import listing
from service.payments.gateway import PaymentGateway
from service.payments.models import V2, Watermark
from tests.support.payments import GatewayFactory, RecordingBreaker, new_order
from tests.support.sandbox import RunningSandbox, running_sandbox, served

LIST = "GET /payment"
RESOLVE = "POST /payment/resolve-blockchain-identifier"
DIFF = "GET /payment/diff"


def just_now() -> datetime:
    return datetime.now(UTC)


async def test_payment_is_found_by_its_job(gateway: PaymentGateway) -> None:
    orders = [new_order() for _ in range(3)]
    made = [await gateway.create(order) for order in orders]
    for order, payment in zip(orders, made, strict=True):
        found = await gateway.find(order.job_id, created_after=just_now())
        assert found is not None
        assert found.id == payment.id


async def test_answer_about_another_payment_is_not_believed(
    gateway: PaymentGateway, sandbox: RunningSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, other = [await gateway.create(new_order()) for _ in range(2)]
    record = sandbox.sandbox.ledger.by_identifier(other.blockchain_identifier)
    monkeypatch.setattr(sandbox.sandbox.ledger, "by_identifier", lambda _: record)
    with pytest.raises(PaymentUnavailable):
        await gateway.resolve(asked.blockchain_identifier)


async def test_payment_of_the_second_contract_is_found(gateway: PaymentGateway) -> None:
    order = new_order(payment_source_type=V2, supported_payment_source_index=0)
    made = await gateway.create(order)
    found = await gateway.find(order.job_id, created_after=just_now())
    assert found is not None
    assert found.id == made.id


async def test_search_reads_beyond_the_first_page(
    gateway: PaymentGateway, sandbox: RunningSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "PAGE", 3)
    first = new_order()
    made = await gateway.create(first)
    for _ in range(7):
        await gateway.create(new_order())
    found = await gateway.find(first.job_id, created_after=just_now())
    assert found is not None
    assert found.id == made.id


async def test_search_ends_where_the_time_in_question_ends(
    gateway: PaymentGateway, sandbox: RunningSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "PAGE", 2)
    for _ in range(8):
        await gateway.create(new_order())
    later = just_now() + listing.CLOCK_MARGIN + timedelta(seconds=1)
    assert await gateway.find(uuid4(), created_after=later) is None
    assert sandbox.calls(LIST) == 2  # one page of V1, one of V2


async def test_unknown_job_has_no_payment(gateway: PaymentGateway) -> None:
    await gateway.create(new_order())
    assert await gateway.find(uuid4(), created_after=just_now()) is None


async def test_search_that_fails_never_says_there_is_none(
    gateway: PaymentGateway, sandbox: RunningSandbox
) -> None:
    sandbox.fault("status", LIST, status=500)
    with pytest.raises(PaymentUnavailable):
        await gateway.find(uuid4(), created_after=just_now())


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "reset"},
        {"kind": "bad-json"},
        {"kind": "status", "status": 500},
        {"kind": "status", "status": 502},
        {"kind": "status", "status": 503},
        {"kind": "status", "status": 504},
        {"kind": "status", "status": 429, "retry_after": "0"},
    ],
)
async def test_read_is_repeated_after_passing_trouble(
    fault: dict[str, object], gateway: PaymentGateway, sandbox: RunningSandbox
) -> None:
    made = await gateway.create(new_order())
    sandbox.fault(route=RESOLVE, times=1, **fault)  # type: ignore[arg-type]
    found = await gateway.resolve(made.blockchain_identifier)
    assert found is not None
    assert found.id == made.id
    assert sandbox.calls(RESOLVE) == 2


async def test_unknown_identifier_resolves_to_none(
    gateway: PaymentGateway, sandbox: RunningSandbox, breaker: RecordingBreaker
) -> None:
    assert await gateway.resolve("00ff") is None
    await gateway.close()
    assert sandbox.calls(RESOLVE) == 1
    assert breaker.outcomes == [Outcome.OK]


async def test_foreign_404_is_not_taken_for_an_unknown_payment(
    make_gateway: GatewayFactory,
) -> None:
    """A wrong address answers 404 to everything; believed, it would fail every job."""

    async def page(_: web.Request) -> web.Response:
        return web.Response(status=404, text="<h1>nginx</h1>", content_type="text/html")

    app = web.Application()
    app.router.add_route("*", "/{any:.*}", page)
    async with served(app) as url:
        gateway = await make_gateway(url)
        with pytest.raises(PaymentMisconfigured):
            await gateway.resolve("00ff")


async def test_redirect_is_not_followed(
    make_gateway: GatewayFactory, sandbox: RunningSandbox
) -> None:
    """The API key must not go where an answer points."""

    async def elsewhere(request: web.Request) -> web.Response:
        raise web.HTTPTemporaryRedirect(sandbox.url + request.path_qs)

    app = web.Application()
    app.router.add_route("*", "/{any:.*}", elsewhere)
    async with served(app) as url:
        gateway = await make_gateway(url)
        with pytest.raises(PaymentMisconfigured):
            await gateway.check_key()
    assert sandbox.calls("GET /api-key-status") == 0


async def test_overlong_answer_is_cut_off(
    make_gateway: GatewayFactory, breaker: RecordingBreaker
) -> None:
    """It would be valid: only its size speaks against it."""

    async def flood(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        with suppress(ConnectionError):  # the reader leaves early
            await response.write(b'{"status":"success","data":{"status":"Active","more":"')
            for _ in range(12):
                await response.write(b"x" * 1024 * 1024)
            await response.write(b'"}}')
        return response

    app = web.Application()
    app.router.add_route("*", "/{any:.*}", flood)
    async with served(app) as url:
        gateway = await make_gateway(url, attempts=1)
        with pytest.raises(PaymentUnavailable):
            await gateway.check_key()
    assert breaker.outcomes == [Outcome.FAIL]


async def test_connection_closed_while_idle_blames_nobody(
    make_gateway: GatewayFactory, breaker: RecordingBreaker
) -> None:
    """A server may close a kept-alive connection just as it is used again: POSTs meet that."""
    served_requests = 0
    talks: list[asyncio.Task[object]] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal served_requests
        if task := asyncio.current_task():
            talks.append(task)
        try:
            for turn in range(2):
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                await reader.readexactly(length)
                served_requests += 1
                if turn == 1:
                    break
                body = b'{"status":"error","error":{"message":"Payment not found"}}'
                writer.write(
                    b"HTTP/1.1 404 Not Found\r\nContent-Type: application/json\r\n"
                    b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
                )
                await writer.drain()
        finally:
            writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        gateway = await make_gateway(f"http://127.0.0.1:{port}")
        assert await gateway.resolve("00ff") is None
        assert await gateway.resolve("00ff") is None
        await gateway.close()
    for task in talks:  # the last one still waits for a further request
        task.cancel()
    await asyncio.gather(*talks, return_exceptions=True)
    assert served_requests == 3
    assert breaker.outcomes == [Outcome.OK, Outcome.NEUTRAL, Outcome.OK]


async def test_changes_come_in_order_until_complete(
    gateway: PaymentGateway, sandbox: RunningSandbox
) -> None:
    start = Watermark.at(just_now() - timedelta(minutes=1))
    first, second = new_order(), new_order(payment_source_type=V2, supported_payment_source_index=0)
    await gateway.create(first)
    await gateway.create(second)
    page = await gateway.changes(start)
    assert page.complete
    assert {p.metadata for p in page.payments} == {str(first.job_id), str(second.job_id)}
    sandbox.happen(life.lock, sandbox.records[0])
    page = await gateway.changes(page.next)
    assert page.payments[-1].metadata == str(first.job_id)
    assert page.payments[-1].on_chain_state == "FundsLocked"


async def test_small_pages_lose_nothing(gateway: PaymentGateway, sandbox: RunningSandbox) -> None:
    """Two feeds are merged: the longer one must not push the other's rows past the mark."""
    mark = Watermark.at(just_now() - timedelta(minutes=1))
    wanted = set()
    for number in range(14):
        changes: dict[str, object] = {}
        if number % 3 == 0:
            changes = {"payment_source_type": V2, "supported_payment_source_index": 0}
        wanted.add((await gateway.create(new_order(**changes))).id)
    seen: set[str] = set()
    for _ in range(30):
        page = await gateway.changes(mark, limit=2)
        seen |= {payment.id for payment in page.payments}
        mark = page.next
        if page.complete:
            break
    assert page.complete
    assert seen == wanted


async def test_idle_feed_stays_where_it_is(gateway: PaymentGateway) -> None:
    mark = Watermark.at(just_now())
    page = await gateway.changes(mark)
    assert page.payments == ()
    assert page.next == mark
    assert page.complete


async def test_key_is_described(gateway: PaymentGateway) -> None:
    status = await gateway.check_key()
    assert status.active
    assert status.can_read
    assert status.can_pay
    assert status.networks == ("Preprod",)


async def test_key_that_may_only_read_is_told_from_one_that_pays(
    make_gateway: GatewayFactory,
) -> None:
    async with running_sandbox(read_key="reader") as running:
        gateway = await make_gateway(running.url, api_key="reader")
        assert not (await gateway.check_key()).can_pay


async def test_unknown_key_is_the_configurations_fault(
    make_gateway: GatewayFactory, sandbox: RunningSandbox
) -> None:
    gateway = await make_gateway(sandbox.url, api_key="wrong")
    with pytest.raises(PaymentMisconfigured):
        await gateway.check_key()
    assert sandbox.calls("GET /api-key-status") == 1


async def test_key_is_in_no_log_line(
    make_gateway: GatewayFactory, sandbox: RunningSandbox, capsys: pytest.CaptureFixture[str]
) -> None:
    gateway = await make_gateway(sandbox.url, api_key="very-secret-key")
    sandbox.fault("reset", times=1)
    with pytest.raises(PaymentMisconfigured) as caught:
        await gateway.check_key()
    printed = "".join(capsys.readouterr())
    assert "payment_attempt_failed" in printed
    assert "very-secret-key" not in printed + repr(caught.value) + repr(gateway)


async def test_unknown_words_do_not_lose_a_payment(make_gateway: GatewayFactory) -> None:
    """The service grows; a state it invents tomorrow must not stop the feed."""

    async def page(_: web.Request) -> web.Response:
        row = {
            "id": "c1",
            "blockchainIdentifier": "ff",
            "agentIdentifier": None,
            "payByTime": None,
            "submitResultTime": "1",
            "unlockTime": "2",
            "externalDisputeUnlockTime": "3",
            "onChainState": "SomethingNew",
            "NextAction": {"requestedAction": "SomethingElse", "more": 1},
            "CurrentTransaction": None,
            "SmartContractWallet": None,
            "PaymentSource": {"paymentSourceType": "Web3CardanoV3"},
            "resultHash": None,
            "metadata": None,
            "createdAt": "2026-01-01T00:00:00.000Z",
            "updatedAt": "2026-01-01T00:00:00.000Z",
            "nextActionOrOnChainStateOrResultLastChangedAt": "2026-01-01T00:00:00.000Z",
            "unheardOf": [],
        }
        return success({"Payments": [row]})

    app = web.Application()
    app.router.add_get("/api/v1/payment/diff", page)
    async with served(app) as url:
        gateway = await make_gateway(url)
        seen = await gateway.changes(Watermark("2026-01-01T00:00:00.000Z"))
    assert {payment.on_chain_state for payment in seen.payments} == {"SomethingNew"}


async def test_unreadable_payment_costs_the_others_nothing(
    gateway: PaymentGateway,
    sandbox: RunningSandbox,
    breaker: RecordingBreaker,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is told of once, however often its page is read, and the breaker hears nothing of it."""
    orders = [new_order() for _ in range(3)]
    made = [await gateway.create(order) for order in orders]
    odd = made[1].id
    shown = documents.payment

    def spoilt(record: Record, chain: Chain) -> dict[str, Any]:
        return shown(record, chain) | ({"payByTime": "soon"} if record.id == odd else {})

    monkeypatch.setattr(documents, "payment", spoilt)
    start = Watermark.at(just_now() - timedelta(minutes=1))
    with structlog.testing.capture_logs() as entries:
        for _ in range(4):
            page = await gateway.changes(start)
            assert {payment.id for payment in page.payments} == {made[0].id, made[2].id}
        found = await gateway.find(orders[0].job_id, created_after=just_now())
        with pytest.raises(PaymentUnavailable):
            await gateway.find(orders[1].job_id, created_after=just_now())
        assert await gateway.find(uuid4(), created_after=just_now()) is None
        with pytest.raises(PaymentUnavailable):
            await gateway.resolve(made[1].blockchain_identifier)
    assert found == made[0]
    told = [entry for entry in entries if entry["event"] == "payment_unreadable"]
    assert [entry["payment"] for entry in told] == [odd]
    await gateway.close()
    assert Outcome.FAIL not in breaker.outcomes
