"""What the state of a payment asks of its job: pure, one answer for each pair of the two.

| on chain | awaits payment | runs or asks | completed | failed unpaid |
|---|---|---|---|---|
| nothing | wait, until pay-by and a grace are over | note | note | note |
| FundsLocked | run | note | settle again, if it was settled | late payment |
| RefundRequested | wait, do not run | note: leads to Disputed | note | late payment |
| one of ``USED`` | fail: not our result | note | note | note |
| FundsOrDatumInvalid, one of ``GONE`` | fail | stop | note | note |
| a word we do not know | wait | note | note | note |

A waiting job waits at most until no result could be settled any more.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from service.jobs.models import JobState, OpenPayment
from service.jobs.outbox import CLOSES_S
from service.payments.models import Payment

FUNDED = "FundsLocked"
#: The purchaser wants the money back, and may still think better of it.
ASKED_BACK = "RefundRequested"
INVALID = "FundsOrDatumInvalid"
#: The funds are gone, or on their way.
GONE = frozenset({"RefundWithdrawn", "RefundAuthorized", "DisputedWithdrawn"})
#: Somebody has handed in a result.
USED = frozenset({"ResultSubmitted", "Disputed", "Withdrawn", "WithdrawAuthorized"})


@dataclass(frozen=True, slots=True)
class Step:
    """What to do; ``code`` and ``text`` tell a failed job's purchaser why."""

    kind: Literal["run", "fail", "stop", "late", "reopen", "note"]
    code: str = ""
    text: str = ""

    @property
    def moves(self) -> bool:
        """More than a note: wants the payment to be looked at once more first."""
        return self.kind != "note"


NOTE = Step("note")
RUN = Step("run")
LATE = Step("late")
REOPEN = Step("reopen")
UNPAID = Step("fail", "payment-missing", "No payment came in time.")
INVALID_PAYMENT = Step("fail", "payment-invalid", "No valid payment came in time.")
REFUNDED = Step("fail", "payment-refunded", "The payment was taken back before the run.")
OTHER_RESULT = Step("fail", "payment-used", "The payment was used for another result.")
WITHDRAWN = Step("stop", "payment-withdrawn", "The payment was taken back during the run.")


def step(job: OpenPayment, payment: Payment) -> Step:
    """What this payment asks of this job."""
    state = payment.on_chain_state
    if job.state is JobState.AWAITING_PAYMENT:
        return _before_the_run(state)
    if job.state in (JobState.RUNNING, JobState.AWAITING_INPUT):
        return WITHDRAWN if state in GONE or state == INVALID else NOTE
    if job.state is JobState.COMPLETED:
        # RefundRequested after a result is our own refund on its way: not to be undone.
        submitting = payment.next_action.startswith("SubmitResult")
        forgotten = state == FUNDED and job.settlement == "settled" and not submitting
        return REOPEN if forgotten else NOTE
    if job.state is JobState.FAILED and job.paid_at is None:
        return LATE if state in (FUNDED, ASKED_BACK) else NOTE
    return NOTE


def overdue(job: OpenPayment, state: str | None, *, now: datetime, grace_s: float) -> Step | None:
    """How a job that still awaits its payment ends, where its time is over."""
    if job.pay_by_time_ms is None or job.submit_result_time_ms is None:
        raise AssertionError("a job awaiting payment has its terms")
    now_s = now.timestamp()
    if state is None and now_s > job.pay_by_time_ms / 1000 + grace_s:
        return UNPAID
    if state != FUNDED and now_s > job.submit_result_time_ms / 1000 - CLOSES_S:
        return REFUNDED if state == ASKED_BACK else UNPAID
    return None


def _before_the_run(state: str | None) -> Step:
    if state == FUNDED:
        return RUN
    if state == INVALID:
        return INVALID_PAYMENT
    if state in GONE:
        return REFUNDED
    return OTHER_RESULT if state in USED else NOTE
