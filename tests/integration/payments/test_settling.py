"""Handing in a result, recovering, giving money back: the right-hand column of the retry table."""

from __future__ import annotations

import pytest

from scripts.sandbox import life
from scripts.sandbox.records import MANUAL, Record
from service.errors import (
    PaymentMisconfigured,
    PaymentOutcomeUnknown,
    PaymentRejected,
    PaymentUnavailable,
)
from service.payments.gateway import PaymentGateway
from tests.support.payments import new_order
from tests.support.sandbox import RESULT_HASH, RunningSandbox

SUBMIT = "POST /payment/submit-result"
RESOLVE = "POST /payment/resolve-blockchain-identifier"
RECOVER = "POST /payment/error-state-recovery"
REFUND = "POST /payment/authorize-refund"


@pytest.fixture
async def paid(gateway: PaymentGateway, sandbox: RunningSandbox) -> Record:
    await gateway.create(new_order())
    (record,) = sandbox.records
    sandbox.happen(life.lock, record)
    # Slow enough that a submission stays on its way while a test looks at it.
    sandbox.sandbox.ledger.pace.confirm_after_ms = 60_000
    return record


async def test_result_is_requested_then_confirmed(
    gateway: PaymentGateway, sandbox: RunningSandbox, paid: Record
) -> None:
    asked = await gateway.submit_result(paid.blockchain_identifier, RESULT_HASH)
    assert asked is not None
    assert asked.next_action == "SubmitResultRequested"
    assert asked.has_result(RESULT_HASH)
    sandbox.sandbox.ledger.advance(60_000)
    done = await gateway.resolve(paid.blockchain_identifier)
    assert done is not None
    assert done.on_chain_state == "ResultSubmitted"
    assert done.result_hash == RESULT_HASH


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "reset"},
        {"kind": "bad-json"},
        {"kind": "status", "status": 500},
        {"kind": "status", "status": 502},
        {"kind": "status", "status": 503},
        {"kind": "status", "status": 504},
        {"kind": "status", "status": 409},
    ],
)
@pytest.mark.parametrize("when", ["before", "after"])
async def test_unclear_submission_is_resolved_then_sent_at_most_once_more(
    fault: dict[str, object],
    when: str,
    gateway: PaymentGateway,
    sandbox: RunningSandbox,
    paid: Record,
) -> None:
    sandbox.fault(route=SUBMIT, when=when, times=1, **fault)  # type: ignore[arg-type]
    payment = await gateway.submit_result(paid.blockchain_identifier, RESULT_HASH)
    if payment is None or not payment.has_result(RESULT_HASH):
        pytest.fail("the result was not handed in")
    assert paid.submitted == [RESULT_HASH]
    assert sandbox.calls(SUBMIT) == (1 if when == "after" else 2)
    assert sandbox.calls(RESOLVE) == 1


async def test_repeat_is_left_to_the_caller_to_resolve(
    gateway: PaymentGateway, paid: Record
) -> None:
    await gateway.submit_result(paid.blockchain_identifier, RESULT_HASH)
    assert await gateway.submit_result(paid.blockchain_identifier, RESULT_HASH) is None


async def test_throttled_submission_waits_and_goes_on(
    gateway: PaymentGateway, sandbox: RunningSandbox, paid: Record
) -> None:
    sandbox.fault("status", SUBMIT, status=429, retry_after="0", times=1)
    assert await gateway.submit_result(paid.blockchain_identifier, RESULT_HASH) is not None
    assert paid.submitted == [RESULT_HASH]
    assert sandbox.calls(RESOLVE) == 0


async def test_malformed_hash_is_refused_for_good(
    gateway: PaymentGateway, sandbox: RunningSandbox, paid: Record
) -> None:
    with pytest.raises(PaymentRejected):
        await gateway.submit_result(paid.blockchain_identifier, "c0ffee")
    assert sandbox.calls(SUBMIT) == 1


async def test_refused_key_keeps_the_result_for_later(
    gateway: PaymentGateway, sandbox: RunningSandbox, paid: Record
) -> None:
    sandbox.fault("status", SUBMIT, status=401)
    with pytest.raises(PaymentMisconfigured):
        await gateway.submit_result(paid.blockchain_identifier, RESULT_HASH)


async def test_submission_nobody_can_tell_about_is_unknown(
    gateway: PaymentGateway, sandbox: RunningSandbox, paid: Record
) -> None:
    sandbox.fault("reset", SUBMIT, when="after")
    sandbox.fault("status", RESOLVE, status=500)
    with pytest.raises(PaymentOutcomeUnknown):
        await gateway.submit_result(paid.blockchain_identifier, RESULT_HASH)


async def test_submission_that_keeps_failing_is_unavailable(
    gateway: PaymentGateway, sandbox: RunningSandbox, paid: Record
) -> None:
    sandbox.fault("status", SUBMIT, status=500)
    with pytest.raises(PaymentUnavailable):
        await gateway.submit_result(paid.blockchain_identifier, RESULT_HASH)
    assert paid.submitted == []


async def test_stuck_submission_is_recovered_and_handed_in_again(
    gateway: PaymentGateway, sandbox: RunningSandbox, paid: Record
) -> None:
    sandbox.fault("interrupt", SUBMIT, times=1)
    stuck = await gateway.submit_result(paid.blockchain_identifier, RESULT_HASH)
    assert stuck is not None
    assert stuck.next_action == MANUAL
    assert stuck.error_note
    await gateway.recover(stuck)
    again = await gateway.submit_result(paid.blockchain_identifier, RESULT_HASH)
    assert again is not None
    assert again.next_action == "SubmitResultRequested"


async def test_recovery_of_what_has_changed_meanwhile_is_quiet(
    gateway: PaymentGateway, sandbox: RunningSandbox, paid: Record
) -> None:
    sandbox.fault("interrupt", SUBMIT, times=1)
    stuck = await gateway.submit_result(paid.blockchain_identifier, RESULT_HASH)
    assert stuck is not None
    sandbox.sandbox.ledger.change(paid, lambda r: r.become(0, error_note="another"))
    await gateway.recover(stuck)
    assert paid.now.action == MANUAL


async def test_recovery_where_nothing_is_wrong_is_refused(
    gateway: PaymentGateway, paid: Record
) -> None:
    payment = await gateway.resolve(paid.blockchain_identifier)
    assert payment is not None
    with pytest.raises(PaymentRejected):
        await gateway.recover(payment)


async def test_unclear_recovery_is_not_repeated(
    gateway: PaymentGateway, sandbox: RunningSandbox, paid: Record
) -> None:
    sandbox.fault("interrupt", SUBMIT, times=1)
    stuck = await gateway.submit_result(paid.blockchain_identifier, RESULT_HASH)
    assert stuck is not None
    sandbox.fault("reset", RECOVER, when="after", times=1)
    with pytest.raises(PaymentOutcomeUnknown):
        await gateway.recover(stuck)
    assert sandbox.calls(RECOVER) == 1


async def test_refund_is_authorised_where_it_was_asked_for(
    gateway: PaymentGateway, sandbox: RunningSandbox, paid: Record
) -> None:
    with pytest.raises(PaymentRejected):
        await gateway.authorize_refund(paid.blockchain_identifier)
    sandbox.happen(life.request_refund, paid)
    await gateway.authorize_refund(paid.blockchain_identifier)
    assert paid.now.action == "AuthorizeRefundRequested"
    assert sandbox.calls(REFUND) == 2
