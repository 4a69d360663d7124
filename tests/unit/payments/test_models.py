from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from service.payments.models import Payment, Watermark, iso_utc

PAYMENT = Payment(
    id="c1",
    blockchain_identifier="ff",
    agent_identifier="agent",
    pay_by_time_ms=1,
    submit_result_time_ms=2,
    unlock_time_ms=3,
    external_dispute_unlock_time_ms=4,
    seller_vkey="vkey",
    on_chain_state=None,
    next_action="WaitingForExternalAction",
    error_type=None,
    error_note=None,
    result_hash=None,
    next_action_result_hash=None,
    metadata=None,
    payment_source_type="Web3CardanoV1",
    created_at=datetime(2026, 1, 1, tzinfo=UTC),
    updated_at="2026-01-01T00:00:00.000Z",
    last_changed_at="2026-01-01T00:00:00.000Z",
)


def changed(**changes: object) -> Payment:
    values = {name: getattr(PAYMENT, name) for name in Payment.__slots__}
    return Payment(**(values | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("moment", "text"),
    [
        (datetime(2026, 1, 31, 23, 59, 59, tzinfo=UTC), "2026-01-31T23:59:59.000Z"),
        (datetime(2026, 1, 31, 23, 59, 59, 123_999, tzinfo=UTC), "2026-01-31T23:59:59.123Z"),
        (
            datetime(2026, 2, 1, 1, 0, tzinfo=timezone(timedelta(hours=2))),
            "2026-01-31T23:00:00.000Z",
        ),
    ],
)
def test_times_are_spelt_as_the_service_takes_them(moment: datetime, text: str) -> None:
    assert iso_utc(moment) == text


def test_time_without_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="zone"):
        iso_utc(datetime(2026, 1, 1))  # noqa: DTZ001 -- the fault under test


def test_watermark_goes_back_in_time() -> None:
    mark = Watermark("2026-01-01T00:00:05.250Z", "c1").rewound(5.0)
    assert mark == Watermark("2026-01-01T00:00:00.250Z")


def test_result_counts_when_on_chain_or_on_its_way() -> None:
    assert changed(result_hash="aa").has_result("aa")
    assert changed(next_action="SubmitResultInitiated", next_action_result_hash="aa").has_result(
        "aa"
    )
    assert not changed(result_hash="bb").has_result("aa")
    assert not changed(
        next_action="WaitingForManualAction", next_action_result_hash="aa"
    ).has_result("aa")


@pytest.mark.parametrize("missing", ["seller_vkey", "agent_identifier", "pay_by_time_ms"])
def test_payment_without_a_field_a_purchaser_needs_is_not_payable(missing: str) -> None:
    assert PAYMENT.payable
    assert not changed(**{missing: None if missing == "pay_by_time_ms" else ""}).payable


@pytest.mark.parametrize(
    ("time", "ms"), [("submit_result_time_ms", 10**15), ("external_dispute_unlock_time_ms", 10**30)]
)
def test_payment_with_a_time_that_never_comes_is_not_payable(time: str, ms: int) -> None:
    assert not changed(**{time: ms}).payable
