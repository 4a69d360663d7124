"""A job in words, for operators: all of it but what its purchaser put in and was given."""

from __future__ import annotations

from datetime import UTC, datetime

from service.jobs.inspection import Dossier, Listed
from service.jobs.models import Job, JobState
from service.jobs.outbox import MOST_RECOVERIES

#: Identifiers are thousands of characters long; this much tells them apart.
SHOWN_CHARACTERS = 200
_SETTLEMENT = {
    "none": "no result to settle",
    "due": "the result has to be handed in",
    "submitted": "handed in; waits to be seen on chain",
    "settled": "the result was seen on chain",
    "lost": "the result did not reach the chain: the funds went elsewhere",
}


def facts(dossier: Dossier, job: Job) -> list[tuple[str, str]]:
    """Names and what stands beside them, in the order of the job's life."""
    return [*_about(dossier), *_payment(dossier), *_work(dossier, job), *_outcome(dossier)]


def _moment(at: datetime) -> str:
    """A time as people compare it with others: UTC, to the millisecond."""
    return at.strftime("%Y-%m-%d %H:%M:%S.") + f"{at.microsecond // 1000:03}Z"


def next_look(job: Dossier | Listed) -> bool:
    """Whether anything is still to be done, so that the time for it means something."""
    return job.settlement in ("due", "submitted") or job.state not in (
        JobState.COMPLETED,
        JobState.FAILED,
    )


def shortened(text: str) -> str:
    """Enough of a long word to tell it apart."""
    if len(text) <= SHOWN_CHARACTERS:
        return text
    return f"{text[:SHOWN_CHARACTERS]}... ({len(text)} characters)"


def _about(job: Dossier) -> list[tuple[str, str]]:
    return [
        ("job", str(job.id)),
        ("flow", f"{job.flow_slug} ({job.variant})"),
        ("state", job.state.value),
        ("created", _moment(job.created_at)),
        ("updated", _moment(job.updated_at)),
        ("client", job.principal),
        ("purchaser", job.identifier_from_purchaser or "-"),
        ("input hash", job.input_hash),
    ]


def _payment(job: Dossier) -> list[tuple[str, str]]:
    if job.free:
        return [("payment", "none: a free variant")]
    if job.blockchain_identifier is None:
        return [("payment", "no payment is known for this job")]
    fields = [
        ("payment", f"{job.payment_id} ({job.payment_source_type or 'first contract'})"),
        ("blockchain id", shortened(job.blockchain_identifier)),
        ("on chain", job.on_chain_state or "nothing seen"),
    ]
    if job.pay_by_time_ms is not None and job.submit_result_time_ms is not None:
        fields += [
            ("pay by", _from_ms(job.pay_by_time_ms)),
            ("submit by", _from_ms(job.submit_result_time_ms)),
        ]
    if job.paid_at is not None:
        late = " (LATE: the job was over; give the funds back)" if job.paid_late else ""
        fields.append(("paid", _moment(job.paid_at) + late))
    return fields


def _work(dossier: Dossier, job: Job) -> list[tuple[str, str]]:
    fields = []
    if dossier.run_attempts:
        lost = f", {dossier.lost_runs} lost with their worker" if dossier.lost_runs else ""
        failed = f", {dossier.failed_runs} failed for now" if dossier.failed_runs else ""
        fields.append(("runs", f"{dossier.run_attempts} begun{lost}{failed}"))
    if dossier.lease_owner is not None and dossier.lease_until is not None:
        held = dossier.lease_until > dossier.seen_at
        word = "held until" if held else "LOST: its lease ended"
        fields.append(("worker", f"{dossier.lease_owner}, {word} {_moment(dossier.lease_until)}"))
    if dossier.state is JobState.RUNNING and dossier.run_deadline is not None:
        fields.append(("must end by", _moment(dossier.run_deadline)))
    if job.input_request:
        fields += [
            ("waits for", f"input to status {job.input_request.status_id}"),
            ("answer by", _moment(job.input_request.expires_at)),
        ]
    if next_look(dossier):
        fields.append(("next look", _moment(dossier.due_at)))
    return fields


def _outcome(job: Dossier) -> list[tuple[str, str]]:
    fields = []
    if job.result is not None:
        # Its length only: a result may well repeat what was put in.
        fields.append(("result", f"{len(job.result)} characters"))
        fields.append(("result hash", job.result_hash or "-"))
    if job.failure is not None:
        fields.append(("failure", f"{job.failure} [{job.failure_code}]"))
    if job.settlement == "none":
        return fields
    fields.append(("settlement", f"{job.settlement}: {_SETTLEMENT[job.settlement]}"))
    if job.settlement_attempts:
        fields.append(("looks", str(job.settlement_attempts)))
    if job.settlement_recoveries:
        stuck = job.settlement_recoveries >= MOST_RECOVERIES and job.settlement != "settled"
        hand = " (in vain: it needs a hand at the payment service)" if stuck else ""
        fields.append(("recoveries", f"{job.settlement_recoveries}{hand}"))
    return fields


def _from_ms(time_ms: int) -> str:
    return _moment(datetime.fromtimestamp(time_ms / 1000, UTC))
