"""What time, purchasers and the chain do to a payment."""

from __future__ import annotations

from typing import Any

import aiohttp
import pytest

from scripts.sandbox.identifiers import SELLER_VKEY
from scripts.sandbox.records import Record
from tests.support.sandbox import (
    PURCHASER,
    RESULT_HASH,
    Http,
    RunningSandbox,
    new_payment,
    running_sandbox,
)

MINUTE_S = 60
HOUR_S = 3600


@pytest.fixture
async def record(http: Http, sandbox: RunningSandbox) -> Record:
    await http.post("/payment", new_payment())
    return sandbox.records[0]


async def act(http: Http, record: Record, action: str) -> int:
    status, _ = await http.post(f"/control/payments/{record.id}/{action}", {})
    return status


async def submit(http: Http, record: Record) -> int:
    body = about(record) | {"submitResultHash": RESULT_HASH}
    status, _ = await http.post("/payment/submit-result", body)
    return status


async def advance(http: Http, seconds: float) -> None:
    status, _ = await http.post("/control/clock", {"seconds": seconds})
    assert status == 200


def about(record: Record) -> dict[str, Any]:
    return {"blockchainIdentifier": record.blockchain_identifier, "network": "Preprod"}


async def test_payment_pays_itself_after_a_while(http: Http, sandbox: RunningSandbox) -> None:
    await http.post("/control/pace", {"pay_after_s": 30})
    await http.post("/payment", new_payment())
    record = sandbox.records[0]
    await advance(http, 29)
    assert record.now.state is None
    await advance(http, 2)
    assert record.now.state == "FundsLocked"
    assert record.now.transaction == "Confirmed"


async def test_payment_nobody_pays_becomes_an_error(http: Http, record: Record) -> None:
    await advance(http, 24 * MINUTE_S)
    assert record.now.state is None
    await advance(http, 2 * MINUTE_S)
    assert record.now.state == "FundsOrDatumInvalid"
    assert record.now.action == "WaitingForManualAction"
    assert record.now.error_type == "Unknown"
    assert "payByTime" in (record.now.error_note or "")


async def test_late_funds_do_not_count(http: Http, record: Record) -> None:
    await advance(http, 21 * MINUTE_S)
    await act(http, record, "lock")
    assert record.now.state == "FundsOrDatumInvalid"


async def test_result_goes_through_all_its_states(http: Http, record: Record) -> None:
    await act(http, record, "lock")
    await http.post("/control/pace", {"confirm_after_s": 40})
    assert await submit(http, record) == 200
    assert record.now.action == "SubmitResultRequested"
    await advance(http, 21)
    assert record.now.action == "SubmitResultInitiated"
    assert record.now.transaction == "Pending"
    await advance(http, 21)
    assert record.now.state == "ResultSubmitted"
    assert record.now.result_hash == RESULT_HASH
    assert record.submitted == [RESULT_HASH]
    await advance(http, 7 * HOUR_S + 11 * MINUTE_S)
    assert record.now.state == "Withdrawn"
    assert record.now.action == "None"


async def test_result_too_close_to_its_end_stays_requested(http: Http, record: Record) -> None:
    await act(http, record, "lock")
    await advance(http, 56 * MINUTE_S)
    assert await submit(http, record) == 200
    await advance(http, MINUTE_S)
    assert record.now.action == "SubmitResultRequested"


async def test_no_result_in_time_is_refunded(http: Http, record: Record) -> None:
    await act(http, record, "lock")
    await advance(http, 69 * MINUTE_S)
    assert record.now.state == "FundsLocked"
    await advance(http, 2 * MINUTE_S)
    assert record.now.state == "RefundWithdrawn"


async def test_result_after_a_refund_request_is_disputed(http: Http, record: Record) -> None:
    await act(http, record, "lock")
    status, _ = await http.post("/purchase/request-refund", about(record))
    assert status == 200
    assert record.now.state == "RefundRequested"
    assert await submit(http, record) == 200
    await advance(http, 1)
    assert record.now.state == "Disputed"


async def test_refund_request_can_be_taken_back(http: Http, record: Record) -> None:
    await act(http, record, "lock")
    await act(http, record, "request-refund")
    status, _ = await http.post("/purchase/cancel-refund-request", about(record))
    assert status == 200
    assert record.now.state == "FundsLocked"
    status, _ = await http.post("/purchase/cancel-refund-request", about(record))
    assert status == 404


@pytest.mark.parametrize(
    ("changes", "state", "kept"),
    [
        ({}, "RefundRequested", RESULT_HASH),
        (
            {"paymentSourceType": "Web3CardanoV2", "supportedPaymentSourceIndex": 0},
            "RefundAuthorized",
            None,
        ),
    ],
)
async def test_authorised_refund_forgets_the_result_in_the_second_contract(
    changes: dict[str, Any], state: str, kept: str | None, http: Http, sandbox: RunningSandbox
) -> None:
    await http.post("/payment", new_payment(**changes))
    record = sandbox.records[0]
    await act(http, record, "lock")
    await submit(http, record)
    await advance(http, 1)
    await act(http, record, "request-refund")
    assert record.now.state == "Disputed"
    status, _ = await http.post("/payment/authorize-refund", about(record))
    assert status == 200
    await advance(http, 1)
    assert record.now.state == state
    assert record.now.result_hash == kept


async def test_invalid_and_rolled_back_payments_can_be_ordered(http: Http, record: Record) -> None:
    await act(http, record, "lock")
    await act(http, record, "rollback")
    assert record.now.state is None
    assert record.now.transaction == "RolledBack"
    await act(http, record, "invalidate")
    assert record.now.state == "FundsOrDatumInvalid"
    assert await act(http, record, "levitate") == 404
    assert await act(http, record, "cancel-refund") == 409


def purchase(payment: dict[str, Any]) -> dict[str, Any]:
    """As a purchaser makes it from what start_job told."""
    names = (
        "blockchainIdentifier",
        "inputHash",
        "agentIdentifier",
        "payByTime",
        "submitResultTime",
        "unlockTime",
        "externalDisputeUnlockTime",
    )
    return {name: payment[name] for name in names} | {
        "network": "Preprod",
        "sellerVkey": payment["SmartContractWallet"]["walletVkey"],
        "identifierFromPurchaser": new_payment()["identifierFromPurchaser"],
    }


async def test_purchase_locks_the_funds_once(http: Http, sandbox: RunningSandbox) -> None:
    _, answer = await http.post("/payment", new_payment())
    body = purchase(answer["data"])
    status, bought = await http.post("/purchase", body)
    assert status == 200
    assert sandbox.records[0].now.state == "FundsLocked"
    status, again = await http.post("/purchase", body)
    assert status == 409
    assert again["id"] == bought["data"]["id"]
    assert again["object"]["id"] == again["id"]


@pytest.mark.parametrize(
    "name", ["payByTime", "submitResultTime", "unlockTime", "externalDisputeUnlockTime"]
)
async def test_time_off_by_a_millisecond_breaks_the_signature(
    name: str, http: Http, sandbox: RunningSandbox
) -> None:
    _, answer = await http.post("/payment", new_payment())
    body = purchase(answer["data"])
    status, refused = await http.post("/purchase", body | {name: str(int(body[name]) + 1)})
    assert status == 400
    assert "signature" in refused["error"]["message"]
    seconds = body | {name: body[name][:-3]}
    assert (await http.post("/purchase", seconds))[0] == 400
    number = body | {name: int(body[name])}
    assert (await http.post("/purchase", number))[0] == 400
    assert sandbox.records[0].now.state is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("inputHash", "00" * 32),
        ("identifierFromPurchaser", "fedcba9876543210"),
        ("sellerVkey", "00" * 28),
        ("blockchainIdentifier", "00ff"),
        ("agentIdentifier", "cd" * 30),
    ],
)
async def test_other_terms_break_the_signature(name: str, value: str, http: Http) -> None:
    _, answer = await http.post("/payment", new_payment())
    status, _ = await http.post("/purchase", purchase(answer["data"]) | {name: value})
    assert status == 400


async def test_purchase_after_pay_by_is_refused(http: Http, record: Record) -> None:
    _, answer = await http.post("/payment/resolve-blockchain-identifier", about(record))
    await advance(http, 21 * MINUTE_S)
    assert (await http.post("/purchase", purchase(answer["data"])))[0] == 400


async def test_default_pace_is_configured_at_start() -> None:
    async with running_sandbox(pay_after_s=5.0, confirm_after_s=2.0) as running:
        pace = running.sandbox.ledger.pace
        assert (pace.pay_after_ms, pace.confirm_after_ms) == (5000, 2000)


async def test_who_pays_by_hand_is_not_paid_for(http: Http, sandbox: RunningSandbox) -> None:
    await http.post("/control/pace", {"pay_after_s": 1, "confirm_after_s": 1})
    await http.post("/control/wallet/hold", {"identifierFromPurchaser": PURCHASER})
    await http.post("/payment", new_payment())
    [record] = sandbox.records
    await advance(http, 60)
    assert record.now.state is None
    terms = record.terms
    bill = about(record) | {
        "inputHash": terms.input_hash,
        "sellerVkey": SELLER_VKEY,
        "agentIdentifier": terms.agent_identifier,
        "identifierFromPurchaser": terms.identifier_from_purchaser,
        "payByTime": str(terms.pay_by_ms),
        "submitResultTime": str(terms.submit_result_ms),
        "unlockTime": str(terms.unlock_ms),
        "externalDisputeUnlockTime": str(terms.dispute_ms),
    }
    status, _ = await http.post("/control/wallet/pay", bill | {"payByTime": "1"})
    assert status == 400
    status, _ = await http.post("/control/wallet/pay", bill)
    assert status == 200
    await advance(http, 2)
    _, seen = await http.post("/control/wallet/look", about(record))
    assert seen == {
        "onChainState": "FundsLocked",
        "inputHash": terms.input_hash,
        "resultHash": None,
    }


async def test_pages_of_any_origin_may_use_the_wallet_and_nothing_else(
    sandbox: RunningSandbox,
) -> None:
    async with aiohttp.ClientSession(sandbox.url) as session:
        for name in ("hold", "pay", "look"):
            async with session.options(f"/control/wallet/{name}") as preflight:
                assert preflight.headers["Access-Control-Allow-Headers"] == "Content-Type"
            async with session.post(f"/control/wallet/{name}", json={}) as refused:
                assert refused.status == 400
                assert refused.headers["Access-Control-Allow-Origin"] == "*"
        async with session.get("/control/books") as books:
            assert "Access-Control-Allow-Origin" not in books.headers
