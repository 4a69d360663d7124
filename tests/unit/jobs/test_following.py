"""What each state of a payment asks of each state of its job; none is left without an answer."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from service.jobs.following import FUNDED, GONE, INVALID, USED, Step, overdue, step
from service.jobs.models import JobState, OpenPayment
from service.payments.models import V1, Payment

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
KNOWN = [None, FUNDED, "RefundRequested", INVALID, *sorted(GONE), *sorted(USED)]
STRANGE = "SomethingNew"


def job(state: JobState, *, settlement: str = "none", paid: bool = False) -> OpenPayment:
    return OpenPayment(
        job_id=uuid4(),
        state=state,
        blockchain_identifier="ff",
        created_at=NOW,
        pay_by_time_ms=ms(NOW + timedelta(minutes=20)),
        submit_result_time_ms=ms(NOW + timedelta(minutes=60)),
        settlement=settlement,
        paid_at=NOW if paid else None,
    )


def payment(state: str | None, *, action: str = "WaitingForExternalAction") -> Payment:
    return Payment(
        id="p",
        blockchain_identifier="ff",
        agent_identifier="a",
        pay_by_time_ms=1,
        submit_result_time_ms=2,
        unlock_time_ms=3,
        external_dispute_unlock_time_ms=4,
        seller_vkey="v",
        on_chain_state=state,
        next_action=action,
        error_type=None,
        error_note=None,
        result_hash=None,
        next_action_result_hash=None,
        metadata=None,
        payment_source_type=V1,
        created_at=NOW,
        updated_at="",
        last_changed_at="",
    )


def ms(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)


def asked(of: OpenPayment, state: str | None) -> tuple[str, str]:
    found = step(of, payment(state))
    return found.kind, found.code


def test_only_locked_funds_start_a_job() -> None:
    waiting = job(JobState.AWAITING_PAYMENT)
    answers = {state: asked(waiting, state) for state in [*KNOWN, STRANGE]}
    assert answers == {
        None: ("note", ""),
        STRANGE: ("note", ""),
        "RefundRequested": ("note", ""),
        FUNDED: ("run", ""),
        INVALID: ("fail", "payment-invalid"),
        **dict.fromkeys(GONE, ("fail", "payment-refunded")),
        **dict.fromkeys(USED, ("fail", "payment-used")),
    }


@pytest.mark.parametrize("state", [JobState.RUNNING, JobState.AWAITING_INPUT])
def test_only_funds_that_are_gone_stop_a_job_under_way(state: JobState) -> None:
    under_way = job(state, paid=True)
    stopped = {word for word in [*KNOWN, STRANGE] if asked(under_way, word)[0] != "note"}
    assert stopped == {INVALID, *GONE}
    assert {asked(under_way, word) for word in stopped} == {("stop", "payment-withdrawn")}


def test_settled_result_the_chain_has_forgotten_is_settled_again() -> None:
    settled = job(JobState.COMPLETED, settlement="settled", paid=True)
    assert [w for w in [*KNOWN, STRANGE] if asked(settled, w)[0] != "note"] == [FUNDED]
    assert step(settled, payment(FUNDED)).kind == "reopen"
    assert step(settled, payment(FUNDED, action="SubmitResultInitiated")).kind == "note"
    for settlement in ("due", "submitted", "lost"):
        assert asked(replace(settled, settlement=settlement), FUNDED)[0] == "note"


def test_funds_for_a_job_that_failed_unpaid_are_late_and_said_once() -> None:
    failed = job(JobState.FAILED)
    late = [word for word in [*KNOWN, STRANGE] if asked(failed, word)[0] != "note"]
    assert late == [FUNDED, "RefundRequested"]
    assert {asked(failed, word)[0] for word in late} == {"late"}
    assert asked(job(JobState.FAILED, paid=True), FUNDED)[0] == "note"


@pytest.mark.parametrize(
    ("state", "after_min", "code"),
    [
        (None, 24, None),  # pay-by and not yet the grace
        (None, 26, "payment-missing"),
        ("RefundRequested", 26, None),
        ("RefundRequested", 54, None),
        ("RefundRequested", 56, "payment-refunded"),
        (STRANGE, 54, None),
        (STRANGE, 56, "payment-missing"),
        (FUNDED, 56, None),  # to be begun or expired as a run, not as unpaid
    ],
)
def test_waiting_for_a_payment_ends(state: str | None, after_min: int, code: str | None) -> None:
    found = overdue(
        job(JobState.AWAITING_PAYMENT),
        state,
        now=NOW + timedelta(minutes=after_min),
        grace_s=300.0,
    )
    assert (found.code if found else None) == code


def test_only_a_note_needs_no_second_look() -> None:
    assert not Step("note").moves
    assert all(Step(kind).moves for kind in ("run", "fail", "stop", "late", "reopen"))
