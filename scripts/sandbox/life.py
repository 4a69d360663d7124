"""What time does to a payment: each event with the state it needs and the state it leads to.

Taken from the payment service's own life cycle; who pays, and when, is the sandbox's setting.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from scripts.sandbox.records import MANUAL, V2, WAITING, Record

Event = Callable[[Record, int], None]

MINUTE_MS = 60_000
#: The service calls a payment invalid this long after pay-by, and submits no result within this
#: long of the latest time for it.
MARGIN_MS = 5 * MINUTE_MS
#: Automatic withdrawals and refunds come this long after they become possible.
COLLECT_MS = 10 * MINUTE_MS


@dataclass(slots=True)
class Pace:
    """How fast the world around the payments moves; changeable while running."""

    #: None: nobody pays unless told to.
    pay_after_ms: int | None = 1000
    #: From a request to its confirmation on chain; half of it until it is begun.
    confirm_after_ms: int = 1000


def begin(record: Record, pace: Pace, *, by_hand: bool = False) -> None:
    record.due["expire"] = record.terms.pay_by_ms + MARGIN_MS
    if pace.pay_after_ms is not None and not by_hand:
        record.due["lock"] = record.created_ms + pace.pay_after_ms


def purchase(record: Record, locked_at_ms: int) -> None:
    """The purchaser has decided; the chain takes a while."""
    record.purchased = True
    if record.now.state is None:
        record.due["lock"] = locked_at_ms


def lock(record: Record, at_ms: int) -> None:
    """The purchaser's funds arrive: in time, or too late to count."""
    if record.now.state is not None:
        return
    if at_ms > record.terms.pay_by_ms:
        invalidate(record, at_ms)
        return
    record.due.pop("expire", None)
    record.due["collect"] = record.terms.submit_result_ms + COLLECT_MS
    record.become(
        at_ms,
        state="FundsLocked",
        paid=True,
        transaction="Confirmed",
        transactions=record.now.transactions + 1,
    )


def invalidate(record: Record, at_ms: int) -> None:
    record.become(
        at_ms,
        state="FundsOrDatumInvalid",
        action=MANUAL,
        error_type="Unknown",
        error_note="The funds or the datum do not match what was agreed.",
    )


def expire(record: Record, at_ms: int) -> None:
    if record.now.state is None:
        record.become(
            at_ms,
            state="FundsOrDatumInvalid",
            action=MANUAL,
            error_type="Unknown",
            error_note="No funds were locked until payByTime.",
        )


def submit(record: Record, result_hash: str, at_ms: int, pace: Pace) -> None:
    record.submitted.append(result_hash)
    record.become(at_ms, action="SubmitResultRequested", action_hash=result_hash)
    record.due["initiate"] = at_ms + pace.confirm_after_ms // 2
    record.due["confirm"] = at_ms + pace.confirm_after_ms


def initiate(record: Record, at_ms: int) -> None:
    if record.now.action != "SubmitResultRequested":
        return
    if record.terms.submit_result_ms <= at_ms + MARGIN_MS:
        record.due.pop("confirm", None)  # too late: it stays requested for ever
        return
    record.become(
        at_ms,
        action="SubmitResultInitiated",
        transaction="Pending",
        transactions=record.now.transactions + 1,
    )


def confirm(record: Record, at_ms: int) -> None:
    now = record.now
    if now.action != "SubmitResultInitiated":
        return
    disputed = now.state in {"RefundRequested", "Disputed"}
    record.due.pop("collect", None)
    if disputed:
        record.due["rule"] = record.terms.dispute_ms + COLLECT_MS
    else:
        record.due["withdraw"] = record.terms.unlock_ms + COLLECT_MS
    record.become(
        at_ms,
        state="Disputed" if disputed else "ResultSubmitted",
        result_hash=now.action_hash,
        action=WAITING,
        action_hash=None,
        transaction="Confirmed",
    )


def interrupt(record: Record, result_hash: str, at_ms: int) -> None:
    """A submission that was taken and then got stuck, until somebody recovers it."""
    record.submitted.append(result_hash)
    record.interrupted = "SubmitResultRequested"
    record.become(
        at_ms,
        action=MANUAL,
        action_hash=result_hash,
        error_type="Unknown",
        error_note="The transaction could not be built.",
    )


def recover(record: Record, at_ms: int, pace: Pace, *, again: bool) -> None:
    action = record.interrupted if again and record.interrupted else WAITING
    keeps = record.now.action_hash if action != WAITING else None
    record.interrupted = None
    record.become(at_ms, action=action, action_hash=keeps, error_type=None, error_note=None)
    if action == "SubmitResultRequested":
        record.due["initiate"] = at_ms + pace.confirm_after_ms // 2
        record.due["confirm"] = at_ms + pace.confirm_after_ms


def withdraw(record: Record, at_ms: int) -> None:
    if record.now.state == "ResultSubmitted":
        record.become(at_ms, state="Withdrawn", action="None")


def collect(record: Record, at_ms: int) -> None:
    """No result in time: the purchaser's side takes its money back."""
    if record.now.state in {"FundsLocked", "RefundRequested"}:
        record.become(at_ms, state="RefundWithdrawn", action="None")


def rule(record: Record, at_ms: int) -> None:
    if record.now.state == "Disputed":
        record.become(at_ms, state="DisputedWithdrawn", action="None")


def request_refund(record: Record, at_ms: int) -> None:
    now = record.now
    if now.state == "FundsLocked":
        record.become(at_ms, state="RefundRequested")
    elif now.state == "ResultSubmitted" and at_ms < record.terms.unlock_ms:
        record.due.pop("withdraw", None)
        record.due["rule"] = record.terms.dispute_ms + COLLECT_MS
        record.become(at_ms, state="Disputed")
    else:
        raise ValueError(f"a payment in state {now.state} takes no refund request")


def cancel_refund(record: Record, at_ms: int) -> None:
    if record.now.state != "RefundRequested":
        raise ValueError("no refund is requested")
    record.become(at_ms, state="FundsLocked")


def authorize_refund(record: Record, at_ms: int, pace: Pace) -> None:
    record.become(at_ms, action="AuthorizeRefundRequested")
    record.due["refund"] = at_ms + pace.confirm_after_ms


def refund(record: Record, at_ms: int) -> None:
    if record.now.action != "AuthorizeRefundRequested":
        return
    if record.terms.source_type == V2:  # whose contract forgets the result on the way
        record.become(at_ms, state="RefundAuthorized", result_hash=None, action=WAITING)
    else:
        record.become(at_ms, state="RefundRequested", action=WAITING)


def rollback(record: Record, at_ms: int) -> None:
    """The chain forgot the last transaction: back to the state before it."""
    states = [chain.state for chain in record.history]
    earlier = [state for state in states if state != states[-1]]
    record.become(at_ms, state=earlier[-1] if earlier else None, transaction="RolledBack")


EVENTS: dict[str, Event] = {
    "lock": lock,
    "expire": expire,
    "initiate": initiate,
    "confirm": confirm,
    "withdraw": withdraw,
    "collect": collect,
    "rule": rule,
    "refund": refund,
}
