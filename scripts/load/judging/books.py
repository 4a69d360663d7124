"""What became of the purchases of a run: purchasers, PostgreSQL and payment service compared."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import psycopg2
import psycopg2.extras

from scripts.chaos import records
from scripts.chaos.audit import Books, Told, Violation, audit
from scripts.chaos.exchange import exchange
from scripts.load.asking.histogram import Histogram
from scripts.load.plan import Bought
from scripts.load.record import Sales
from scripts.running import Running

#: Between two looks whether the fleet has ended its last jobs: it is asked, it does not tell.
_LOOK_S = 0.5
_FINDINGS = 12
#: Rules of the audit by what they mean to a purchaser; the others are told as findings alone.
_LOST = {"accepted jobs are completed", "all jobs are final"}
_DOUBLED = {
    "one answer per purchase",
    "one payment per paid job",
    "one sale per purchase",
    "no job ends twice",
}
_WRONG = {"the result shown is the one settled", "one result per paid job"}


@dataclass(frozen=True, slots=True)
class Ledger:
    """The fleet's database and its sandbox, as ``scripts.chaos.records`` asks for them."""

    database_url: str
    payment_url: str

    def rows(self, statement: str, **params: Any) -> list[dict[str, Any]]:
        with contextlib.closing(psycopg2.connect(self.database_url)) as connection:
            connection.autocommit = True
            cursor = connection.cursor(cursor_factory=psycopg2.extras.RealDictCursor)
            cursor.execute(statement, params)
            return [dict(row) for row in cursor.fetchall()] if cursor.description else []

    def books(self) -> list[dict[str, Any]]:
        payments: list[dict[str, Any]] = exchange(_port(self), "GET", "/control/books")[1][
            "payments"
        ]
        return payments


def _port(ledger: Ledger) -> int:
    return int(ledger.payment_url.rpartition(":")[2])


def opened(service: Running | None) -> Ledger | None:
    """None where they are not ours to read."""
    if service is None or service.database_url is None or service.payment_url is None:
        return None
    return Ledger(service.database_url, service.payment_url)


async def sales(
    bought: Sequence[Bought], ledger: Ledger | None, *, patience_s: float
) -> Sales | None:
    """None where nobody bought; without a ledger, what purchasers saw is all there is.

    ``patience_s``: for results to get on chain after the last one was seen.
    """
    if not bought:
        return None
    violations: Sequence[Violation] = ()
    followed = [one for one in bought if one.paid]
    if ledger is not None and followed:
        await _all_ended(ledger, patience_s)
        violations = await asyncio.to_thread(_audited, ledger, followed)
    return summary(bought, violations, audited=ledger is not None)


async def _all_ended(ledger: Ledger, patience_s: float) -> None:
    """Not in a thread: a run that is stopped would wait for that."""
    deadline_s = time.monotonic() + patience_s
    open_jobs = records.open_jobs
    while await asyncio.to_thread(open_jobs, ledger) and time.monotonic() < deadline_s:  # noqa: ASYNC110
        await asyncio.sleep(_LOOK_S)


def summary(bought: Sequence[Bought], violations: Sequence[Violation], *, audited: bool) -> Sales:
    by_rule = Counter(violation.rule for violation in violations)
    unfinished = [one for one in bought if one.paid and one.status not in {"completed", "failed"}]
    kinds = Counter(kind for one in bought for kind, _ in one.findings)
    latencies = Histogram()
    for one in bought:
        if one.took_us is not None and one.status == "completed":
            latencies.record(one.took_us)
    said = [text for one in bought for _, text in one.findings]
    if not audited:
        said += [f"job {one.job}: no result in time, it is {one.status}" for one in unfinished]
    lost = {violation.subject for violation in violations if violation.rule in _LOST}
    return Sales(
        begun=len(bought),
        refused=sum(one.job is None for one in bought),
        paid=sum(one.paid and not one.free for one in bought),
        completed=sum(one.status == "completed" for one in bought),
        failed=sum(one.status == "failed" for one in bought),
        lost=len(lost | {str(one.job) for one in unfinished}),
        doubled=sum(by_rule[rule] for rule in _DOUBLED),
        wrong_hashes=kinds["hash"]
        + kinds["result"]
        + kinds["form"]
        + sum(by_rule[rule] for rule in _WRONG),
        wrong_times=kinds["time"],
        findings=[*said, *map(str, violations)][:_FINDINGS],
        latency=latencies.latency(),
    )


def _audited(ledger: Ledger, bought: Sequence[Bought]) -> Sequence[Violation]:
    told = [
        Told(
            identifier=one.identifier,
            jobs=frozenset({one.job} if one.job else ()),
            status=one.status,
            results=frozenset(one.results),
        )
        for one in bought
    ]
    everything = records.books(ledger, told)
    return audit(_of_ours(everything, bought))


def _of_ours(books: Books, bought: Sequence[Bought]) -> Books:
    """Others may sell and buy at the same service: only what our purchasers wanted."""
    names = {one.identifier for one in bought if one.identifier}
    jobs = {one.job for one in bought}
    recorded = tuple(j for j in books.recorded if j.job in jobs or j.identifier in names)
    ours = jobs | {job.job for job in recorded}
    return Books(
        books.told, recorded, tuple(payment for payment in books.booked if payment.job in ours)
    )
