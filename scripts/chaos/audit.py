"""Compare what purchasers were told, what PostgreSQL holds and what the payment service has booked.

Pure: no rule of it is taken from the service's own code, the hash of MIP-004 neither.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from scripts.mip004 import result_hash

FINAL = frozenset({"completed", "failed"})
ON_CHAIN = frozenset({"ResultSubmitted", "Withdrawn"})


@dataclass(frozen=True, slots=True)
class Told:
    """One purchase as its purchaser knows it; ``jobs``: every job id start_job ever answered."""

    identifier: str | None
    jobs: frozenset[str]
    #: What the last look at /status showed; None where the purchaser was never told of a job.
    status: str | None = None
    #: Every result that was shown; there must be one.
    results: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Recorded:
    """One job as PostgreSQL has it; ``completions`` and ``endings`` count events of its history."""

    job: str
    identifier: str | None
    free: bool
    state: str
    result_hash: str | None
    settlement: str
    completions: int
    endings: int


@dataclass(frozen=True, slots=True)
class Booked:
    """One payment as the payment service has it."""

    job: str | None
    state: str | None
    result_hash: str | None
    submitted: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Books:
    told: tuple[Told, ...]
    recorded: tuple[Recorded, ...]
    booked: tuple[Booked, ...]


@dataclass(frozen=True, slots=True)
class Violation:
    rule: str
    subject: str
    detail: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.subject}: {self.detail}"


def audit(books: Books) -> tuple[Violation, ...]:
    """Everything that must not be; nothing where all is well."""
    return tuple(
        Violation(name, subject, detail)
        for name, rule in RULES.items()
        for subject, detail in rule(books)
    )


Rule = Callable[[Books], Iterator[tuple[str, str]]]


def _one_answer(books: Books) -> Iterator[tuple[str, str]]:
    for told in books.told:
        if len(told.jobs) > 1:
            yield str(told.identifier), f"was answered with the jobs {sorted(told.jobs)}"


def _accepted_jobs_completed(books: Books) -> Iterator[tuple[str, str]]:
    """Everybody paid and every run can succeed: an accepted job that failed was lost."""
    recorded = {job.job: job for job in books.recorded}
    for told in books.told:
        for job in told.jobs:
            if job not in recorded:
                yield job, "was accepted and is not recorded"
            elif recorded[job].state != "completed":
                yield job, f"was accepted and is {recorded[job].state}"
            elif told.status != "completed":
                yield job, f"is completed, and its purchaser was shown {told.status}"


def _all_jobs_final(books: Books) -> Iterator[tuple[str, str]]:
    """Also those nobody was told of."""
    for job in books.recorded:
        if job.state not in FINAL:
            yield job.job, f"is still {job.state}"


def _one_payment_per_paid_job(books: Books) -> Iterator[tuple[str, str]]:
    payments = Counter(payment.job for payment in books.booked)
    for job in books.recorded:
        if payments[job.job] > 1:
            yield job.job, f"has {payments[job.job]} payments"
        elif not job.free and job.state == "completed" and not payments[job.job]:
            yield job.job, "was completed without a payment"
        elif job.free and payments[job.job]:
            yield job.job, "is free and has a payment"


def _no_stray_payment(books: Books) -> Iterator[tuple[str, str]]:
    """A payment asked for in vain is one the purchaser's side may pay and gets nothing for."""
    completed = {job.job: job.state == "completed" for job in books.recorded}
    for payment in books.booked:
        if payment.job not in completed:
            yield str(payment.job), "is the job of a payment, and is not recorded"
        elif not completed[payment.job]:
            yield payment.job, "has a payment and no result"


def _one_sale_per_purchase(books: Books) -> Iterator[tuple[str, str]]:
    """However often the request was sent again."""
    paid = {payment.job for payment in books.booked}
    sales = Counter(job.identifier for job in books.recorded if job.job in paid)
    for identifier, count in sales.items():
        if identifier is not None and count > 1:
            yield identifier, f"was sold {count} times"


def _one_result_per_paid_job(books: Books) -> Iterator[tuple[str, str]]:
    payments: dict[str | None, Booked] = {payment.job: payment for payment in books.booked}
    for job in books.recorded:
        payment = payments.get(job.job)
        if job.free or job.state != "completed" or payment is None:
            continue
        if len(payment.submitted) != 1:
            yield job.job, f"had {len(payment.submitted)} results submitted"
        elif (payment.state not in ON_CHAIN) or payment.result_hash != job.result_hash:
            yield job.job, f"has its payment in {payment.state} with {payment.result_hash}"
        elif job.settlement != "settled":
            yield job.job, f"has a result on chain and is {job.settlement}"


def _shown_result_is_the_settled_one(books: Books) -> Iterator[tuple[str, str]]:
    hashes = {job.job: job.result_hash for job in books.recorded}
    for told in books.told:
        shown = {result_hash(told.identifier, result) for result in told.results}
        for job in told.jobs:
            if told.status == "completed" and shown != {hashes.get(job)}:
                yield job, f"showed {len(shown)} results, or one without the hash it has"


def _nothing_ran_to_its_end_twice(books: Books) -> Iterator[tuple[str, str]]:
    for job in books.recorded:
        if job.completions > 1 or job.endings > 1:
            yield job.job, f"ended {job.endings} times, {job.completions} times with a result"


RULES: Mapping[str, Rule] = {
    "one answer per purchase": _one_answer,
    "accepted jobs are completed": _accepted_jobs_completed,
    "all jobs are final": _all_jobs_final,
    "one payment per paid job": _one_payment_per_paid_job,
    "no payment in vain": _no_stray_payment,
    "one sale per purchase": _one_sale_per_purchase,
    "one result per paid job": _one_result_per_paid_job,
    "the result shown is the one settled": _shown_result_is_the_settled_one,
    "no job ends twice": _nothing_ran_to_its_end_twice,
}
