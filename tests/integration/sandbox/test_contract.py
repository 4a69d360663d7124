"""The seller's contract of the payment service, as its clients have to meet it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from scripts.sandbox.agents import Agent
from tests.support.sandbox import AGENT, RESULT_HASH, Http, RunningSandbox, new_payment, spelt

KEYS = {
    "id",
    "createdAt",
    "updatedAt",
    "blockchainIdentifier",
    "agentIdentifier",
    "agentName",
    "pricingType",
    "lastCheckedAt",
    "payByTime",
    "submitResultTime",
    "unlockTime",
    "externalDisputeUnlockTime",
    "collateralReturnLovelace",
    "buyerReturnAddress",
    "sellerReturnAddress",
    "requestedById",
    "inputHash",
    "resultHash",
    "nextActionLastChangedAt",
    "onChainStateOrResultLastChangedAt",
    "nextActionOrOnChainStateOrResultLastChangedAt",
    "onChainState",
    "NextAction",
    "CurrentTransaction",
    "RequestedFunds",
    "WithdrawnForSeller",
    "WithdrawnForBuyer",
    "PaymentSource",
    "BuyerWallet",
    "SmartContractWallet",
    "metadata",
    "totalBuyerCardanoFees",
    "totalSellerCardanoFees",
    "cooldownTime",
    "cooldownTimeOtherParty",
}


def after(**delta: float) -> str:
    return spelt(datetime.now(UTC) + timedelta(**delta))


async def create(http: Http, **changes: Any) -> dict[str, Any]:
    status, answer = await http.post("/payment", new_payment(**changes))
    assert (status, answer["status"]) == (200, "success")
    document: dict[str, Any] = answer["data"]
    return document


async def test_fresh_payment_has_every_key(http: Http) -> None:
    document = await create(http)
    assert document.keys() == KEYS
    assert document["onChainState"] is None
    assert document["CurrentTransaction"] is None
    assert document["NextAction"] == {
        "requestedAction": "WaitingForExternalAction",
        "errorType": None,
        "errorNote": None,
        "resultHash": None,
    }
    for name in ("payByTime", "submitResultTime", "unlockTime", "externalDisputeUnlockTime"):
        assert document[name].isdecimal()
        assert len(document[name]) == 13
    hour_ms = 3_600_000
    submit_ms = int(document["submitResultTime"])
    assert int(document["unlockTime"]) == submit_ms + 6 * hour_ms
    assert int(document["externalDisputeUnlockTime"]) == submit_ms + 12 * hour_ms


async def test_reads_have_two_keys_more(http: Http) -> None:
    document = await create(http)
    body = {"blockchainIdentifier": document["blockchainIdentifier"], "network": "Preprod"}
    more = {"ActionHistory", "TransactionHistory"}
    _, resolved = await http.post("/payment/resolve-blockchain-identifier", body)
    _, listed = await http.get("/payment", network="Preprod")
    _, changed = await http.get("/payment/diff", network="Preprod")
    for shown in (resolved["data"], listed["data"]["Payments"][0], changed["data"]["Payments"][0]):
        assert shown.keys() == KEYS | more
        assert shown["ActionHistory"] is None
    _, full = await http.post(
        "/payment/resolve-blockchain-identifier", body | {"includeHistory": "true"}
    )
    assert full["data"]["ActionHistory"]


async def test_same_request_twice_is_two_payments(http: Http, sandbox: RunningSandbox) -> None:
    first, second = await create(http), await create(http)
    assert first["blockchainIdentifier"] != second["blockchainIdentifier"]
    assert len(sandbox.records) == 2


@pytest.mark.parametrize("path", ["/payment", "/payment/"])
async def test_trailing_slash_is_accepted(path: str, http: Http) -> None:
    status, _ = await http.post(path, new_payment())
    assert status == 200


@pytest.mark.parametrize(
    ("pay_by", "accepted"),
    [
        ("{0:%Y-%m-%dT%H:%M:%S}.000Z", True),
        ("{0:%Y-%m-%dT%H:%M:%S}Z", True),
        ("{0:%Y-%m-%dT%H:%M:%S}", True),
        ("{0:%Y-%m-%d}", True),
        ("{0:%Y-%m-%dT%H:%M:%S}+00:00", False),
        ("{0:%Y-%m-%d %H:%M:%S}", False),
        ("tomorrow", False),
    ],
)
async def test_dates_are_taken_in_four_spellings(pay_by: str, accepted: bool, http: Http) -> None:
    moment = datetime.now(UTC) + timedelta(days=2)
    body = new_payment(payByTime=pay_by.format(moment), submitResultTime=after(days=9))
    status, _ = await http.post("/payment", body)
    assert status == (200 if accepted else 400)


@pytest.mark.parametrize(
    ("changes", "agent", "status"),
    [
        ({"inputHash": "xyz1"}, Agent(), 400),
        ({"inputHash": "abc"}, Agent(), 400),
        ({"inputHash": None}, Agent(), 400),
        ({"identifierFromPurchaser": "0" * 13}, Agent(), 400),
        ({"identifierFromPurchaser": "0" * 28}, Agent(), 400),
        ({"identifierFromPurchaser": "0" * 15}, Agent(), 400),
        ({"agentIdentifier": "ab" * 28}, Agent(), 400),
        ({"network": "Testnet"}, Agent(), 400),
        ({"network": "Mainnet"}, Agent(), 401),
        ({"payByTime": None}, Agent(), 400),
        ({"submitResultTime": None}, Agent(), 400),
        ({"metadata": 7}, Agent(), 400),
        ({}, Agent(trouble="unknown"), 404),
        ({}, Agent(trouble="missing"), 404),
        ({}, Agent(trouble="broken"), 500),
        ({}, Agent(trouble="unowned"), 404),
        ({}, Agent(pricing="Free"), 400),
        ({}, Agent(pricing="Dynamic"), 400),
        ({}, Agent(source_type="Web3CardanoV2"), 400),
        ({"RequestedFunds": [{"amount": "1", "unit": ""}]}, Agent(), 400),
        ({"RequestedFunds": [{"amount": "1", "unit": ""}]}, Agent(pricing="Dynamic"), 200),
        ({"paymentSourceType": "Web3CardanoV2"}, Agent(), 400),
        ({"supportedPaymentSourceIndex": 0}, Agent(), 400),
        (
            {"paymentSourceType": "Web3CardanoV2", "supportedPaymentSourceIndex": 24},
            Agent(),
            200,
        ),
        (
            {"paymentSourceType": "Web3CardanoV2", "supportedPaymentSourceIndex": 25},
            Agent(),
            400,
        ),
        ({"paymentType": "Web3CardanoV1"}, Agent(), 200),
    ],
)
async def test_new_payment_is_checked(
    changes: dict[str, Any], agent: Agent, status: int, http: Http, sandbox: RunningSandbox
) -> None:
    body = new_payment(**changes)
    sandbox.sandbox.agents.put(body["agentIdentifier"], agent)
    got, answer = await http.post("/payment", body)
    assert got == status, answer
    assert len(sandbox.records) == (status == 200)
    if status != 200:
        assert answer["status"] == "error"
        assert answer["error"]["message"]


@pytest.mark.parametrize(
    ("times", "message"),
    [
        ({"payByTime": {"minutes": 56}}, "Pay by time must be 5 min before"),
        ({"payByTime": {"minutes": -6}}, "Pay by time must be in the future"),
        ({"payByTime": {}, "submitResultTime": {"minutes": 14}}, "Submit result time must be"),
        ({"unlockTime": {"minutes": 74}}, "Unlock time must be"),
        ({"unlockTime": {"hours": 2}, "externalDisputeUnlockTime": {"minutes": 134}}, "Dispute"),
    ],
)
async def test_chain_of_times_is_kept(
    times: dict[str, dict[str, float]], message: str, http: Http
) -> None:
    status, answer = await http.post(
        "/payment", new_payment(**{name: after(**delta) for name, delta in times.items()})
    )
    assert status == 400
    assert answer["error"]["message"].startswith(message)


async def test_checks_come_in_the_services_order(http: Http, sandbox: RunningSandbox) -> None:
    """An unknown policy is told before a bad hash, a bad hash before a bad time, and so on."""
    body = new_payment(inputHash="zz", payByTime=after(hours=-1))
    sandbox.sandbox.agents.put(AGENT, Agent(trouble="unknown", pricing="Free"))
    assert (await http.post("/payment", body))[0] == 404
    sandbox.sandbox.agents.put(AGENT, Agent(trouble="missing", pricing="Free"))
    _, answer = await http.post("/payment", body)
    assert "hex" in answer["error"]["message"]
    _, answer = await http.post("/payment", body | {"inputHash": "aa"})
    assert "Pay by" in answer["error"]["message"]
    assert (await http.post("/payment", body | new_payment()))[0] == 404


@pytest.mark.parametrize("key", [None, "", "wrong"])
async def test_unknown_key_is_refused_everywhere_but_at_health(key: str | None, http: Http) -> None:
    http.key = key
    assert (await http.get("/payment", network="Preprod"))[0] == 401
    assert (await http.post("/payment", new_payment()))[0] == 401
    assert (await http.get("/api-key-status"))[0] == 401
    status, answer = await http.get("/health")
    assert (status, answer) == (200, {"status": "success", "data": {"status": "ok"}})


async def test_reading_key_may_not_pay(http: Http) -> None:
    http.key = "reader"
    assert (await http.get("/payment", network="Preprod"))[0] == 200
    assert (await http.post("/payment", new_payment()))[0] == 401
    _, answer = await http.get("/api-key-status")
    assert answer["data"]["canPay"] is False
    assert answer["data"]["NetworkLimit"] == ["Preprod"]
    assert answer["data"]["status"] == "Active"


async def test_list_shows_ten_of_the_first_contract_newest_first(http: Http) -> None:
    made = [await create(http) for _ in range(12)]
    await create(http, paymentSourceType="Web3CardanoV2", supportedPaymentSourceIndex=0)
    _, answer = await http.get("/payment", network="Preprod")
    shown = [row["id"] for row in answer["data"]["Payments"]]
    assert shown == [row["id"] for row in reversed(made)][:10]
    _, other = await http.get(
        "/payment", network="Preprod", filterPaymentSourceType="Web3CardanoV2"
    )
    assert len(other["data"]["Payments"]) == 1
    _, count = await http.get("/payment/count", network="Preprod")
    assert count["data"]["total"] == 12


async def test_cursor_repeats_its_own_row(http: Http) -> None:
    made = [await create(http) for _ in range(4)]
    _, answer = await http.get("/payment", network="Preprod", limit="2")
    last = answer["data"]["Payments"][-1]["id"]
    _, following = await http.get("/payment", network="Preprod", limit="3", cursorId=last)
    assert [row["id"] for row in following["data"]["Payments"]] == [
        made[index]["id"] for index in (2, 1, 0)
    ]


@pytest.mark.parametrize("limit", ["0", "101", "x", "-1"])
async def test_limit_is_one_to_a_hundred(limit: str, http: Http) -> None:
    assert (await http.get("/payment", network="Preprod", limit=limit))[0] == 400


async def test_metadata_and_identifier_cannot_be_searched(http: Http) -> None:
    document = await create(http, metadata="needle")
    for text in ("needle", document["blockchainIdentifier"]):
        _, answer = await http.get("/payment", network="Preprod", searchQuery=text)
        assert answer["data"]["Payments"] == []
    _, answer = await http.get("/payment", network="Preprod", searchQuery=document["id"])
    assert len(answer["data"]["Payments"]) == 1


async def test_changes_are_inclusive_and_ascending(http: Http, sandbox: RunningSandbox) -> None:
    first, second = await create(http), await create(http)
    sandbox.sandbox.ledger.advance(1000)
    await http.post(f"/control/payments/{first['id']}/lock", {})
    _, answer = await http.get("/payment/diff", network="Preprod")
    rows = answer["data"]["Payments"]
    assert [row["id"] for row in rows] == [second["id"], first["id"]]
    mark = rows[-1]["nextActionOrOnChainStateOrResultLastChangedAt"]
    _, again = await http.get("/payment/diff", network="Preprod", lastUpdate=mark)
    assert [row["id"] for row in again["data"]["Payments"]] == [first["id"]]
    _, actions = await http.get("/payment/diff/next-action", network="Preprod", lastUpdate=mark)
    assert actions["data"]["Payments"] == []
    _, states = await http.get(
        "/payment/diff/onchain-state-or-result", network="Preprod", lastUpdate=mark
    )
    assert len(states["data"]["Payments"]) == 1


async def test_offset_in_last_update_is_refused(http: Http) -> None:
    status, _ = await http.get(
        "/payment/diff", network="Preprod", lastUpdate="2026-01-01T00:00:00+00:00"
    )
    assert status == 400


async def test_result_is_taken_once_and_only_when_paid(http: Http) -> None:
    document = await create(http)
    body = {
        "blockchainIdentifier": document["blockchainIdentifier"],
        "network": "Preprod",
        "submitResultHash": RESULT_HASH,
    }
    assert (await http.post("/payment/submit-result", body))[0] == 404
    await http.post(f"/control/payments/{document['id']}/lock", {})
    await http.post("/control/pace", {"confirm_after_s": 600})
    status, answer = await http.post("/payment/submit-result", body)
    assert status == 200
    assert answer["data"]["NextAction"]["requestedAction"] == "SubmitResultRequested"
    assert answer["data"]["NextAction"]["resultHash"] == RESULT_HASH
    assert answer["data"]["resultHash"] is None
    assert (await http.post("/payment/submit-result", body))[0] == 404
    short = body | {"submitResultHash": "c0"}
    assert (await http.post("/payment/submit-result", short))[0] == 400


async def test_registry_and_sources_are_told(http: Http) -> None:
    _, answer = await http.get(
        "/registry/agent-identifier", network="Preprod", agentIdentifier=AGENT
    )
    assert answer["data"]["Metadata"]["AgentPricing"]["pricingType"] == "Fixed"
    _, answer = await http.get("/payment-source")
    assert len(answer["data"]["PaymentSources"]) == 2


async def test_what_does_not_exist_is_answered_in_the_envelope(http: Http) -> None:
    assert await http.get("/nothing") == (
        404,
        {"status": "error", "error": {"message": "Not Found"}},
    )
