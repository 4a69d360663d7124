from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from service.payments.documents import (
    Answer,
    ErrorAnswer,
    KeyDocument,
    PaymentDocument,
    PaymentList,
)
from service.payments.models import Payment, Unreadable

DOCUMENT: dict[str, Any] = {
    "id": "c1",
    "blockchainIdentifier": "ff",
    "agentIdentifier": "agent",
    "payByTime": "1735689600123",
    "submitResultTime": "1735689600456",
    "unlockTime": "1735689600789",
    "externalDisputeUnlockTime": "1735689601000",
    "onChainState": "FundsLocked",
    "NextAction": {
        "requestedAction": "SubmitResultRequested",
        "errorType": "Unknown",
        "errorNote": "note",
        "resultHash": "aa",
    },
    "CurrentTransaction": {"id": "t1"},
    "SmartContractWallet": {"id": "w", "walletVkey": "vkey", "walletAddress": "addr"},
    "PaymentSource": {"paymentSourceType": "Web3CardanoV2"},
    "resultHash": "bb",
    "metadata": "job",
    "createdAt": "2026-01-01T00:00:00.000Z",
    "updatedAt": "2026-01-02T00:00:00.001Z",
    "nextActionOrOnChainStateOrResultLastChangedAt": "2026-01-03T00:00:00.002Z",
}


def answer(status: str = "success", **changes: Any) -> bytes:
    return json.dumps({"status": status, "data": DOCUMENT | changes}).encode()


def test_every_field_arrives() -> None:
    payment = Answer[PaymentDocument].model_validate_json(answer()).data.value()
    assert payment.pay_by_time_ms == 1735689600123
    assert payment.submit_result_time_ms == 1735689600456
    assert payment.unlock_time_ms == 1735689600789
    assert payment.external_dispute_unlock_time_ms == 1735689601000
    assert payment.seller_vkey == "vkey"
    assert payment.on_chain_state == "FundsLocked"
    assert payment.next_action == "SubmitResultRequested"
    assert payment.error_type == "Unknown"
    assert payment.error_note == "note"
    assert payment.next_action_result_hash == "aa"
    assert payment.result_hash == "bb"
    assert payment.payment_source_type == "Web3CardanoV2"
    assert payment.updated_at == "2026-01-02T00:00:00.001Z"
    assert payment.last_changed_at == "2026-01-03T00:00:00.002Z"


@pytest.mark.parametrize("moment", ["soon", "2026-01-03", "2026-01-03T00:00:00", ""])
def test_change_that_cannot_be_put_in_order_is_refused(moment: str) -> None:
    changed = {"nextActionOrOnChainStateOrResultLastChangedAt": moment}
    with pytest.raises(ValidationError):
        Answer[PaymentDocument].model_validate_json(answer(**changed))


@pytest.mark.parametrize("status", ["success", "Success", "SUCCESS"])
def test_success_is_read_in_any_case(status: str) -> None:
    Answer[PaymentDocument].model_validate_json(answer(status))


@pytest.mark.parametrize(
    "changes",
    [
        {"submitResultTime": "1735689600.5"},
        {"submitResultTime": "1_735"},
        {"submitResultTime": "-1"},
        {"submitResultTime": ""},
        {"submitResultTime": None},
        {"submitResultTime": True},
        {"blockchainIdentifier": ""},
        {"id": ""},
        {"NextAction": None},
    ],
)
def test_wrong_document_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Answer[PaymentDocument].model_validate_json(answer(**changes))


@pytest.mark.parametrize("row", [None, 7, [], {}, DOCUMENT | {"submitResultTime": "soon"}])
def test_unreadable_payment_takes_no_other_of_its_list_along(row: Any) -> None:
    content = json.dumps({"Payments": [DOCUMENT, row, DOCUMENT | {"id": "c2"}]})
    first, odd, last = PaymentList.model_validate_json(content).values()
    assert isinstance(first, Payment)
    assert isinstance(odd, Unreadable)
    assert isinstance(last, Payment)
    assert (first.id, last.id) == ("c1", "c2")


def test_what_can_be_read_of_an_unreadable_payment_is_kept() -> None:
    changes = {"submitResultTime": "s3cret", "createdAt": "soon", "metadata": None}
    (odd,) = PaymentList.model_validate({"Payments": [DOCUMENT | changes]}).values()
    assert odd == Unreadable(
        id="c1",
        metadata="",
        created_at=None,
        last_changed_at="2026-01-03T00:00:00.002Z",
        fault="submitResultTime: Value error, must be a whole number of milliseconds as text",
    )


def test_error_is_no_success() -> None:
    with pytest.raises(ValidationError):
        Answer[PaymentDocument].model_validate_json(answer("error"))


@pytest.mark.parametrize("body", ["", "<html>", "[]", "null", '"error"', "{}"])
def test_foreign_error_page_is_told_from_the_services_own(body: str) -> None:
    with pytest.raises(ValidationError):
        ErrorAnswer.model_validate_json(body)


@pytest.mark.parametrize(
    ("rights", "reads", "pays"),
    [
        ({"canRead": True, "canPay": True}, True, True),
        ({"canRead": True, "canPay": False}, True, False),
        ({"permission": "ReadAndPay"}, True, True),
        ({"permission": "Admin"}, True, True),
        ({"permission": "Read"}, True, False),
        ({}, False, False),
    ],
)
def test_rights_are_read_in_both_spellings(rights: dict[str, Any], reads: bool, pays: bool) -> None:
    body = {"status": "Active", "NetworkLimit": ["Preprod"], **rights}
    key = KeyDocument.model_validate(body).value()
    assert (key.can_read, key.can_pay) == (reads, pays)
    assert key.active
