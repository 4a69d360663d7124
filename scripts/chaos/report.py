"""The findings of a drill for people, and for programs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from scripts.chaos.drill import Findings


def text(findings: Findings) -> str:
    books, tally, plan = findings.books, findings.tally, findings.plan
    states = Counter(f"{'free' if job.free else 'paid'} {job.state}" for job in books.recorded)
    lines = [
        f"seed {plan.seed}: {_listed(tally.kills)} killed in {findings.killing_s:.0f} s;"
        f" everything had ended {findings.ending_s:.0f} s later",
        f"purchases: {len(books.told)}, of which {accepted(findings)} were accepted",
        f"jobs: {_listed(states)}",
        f"payments: {len(books.booked)};"
        f" results submitted: {sum(len(payment.submitted) for payment in books.booked)}",
        f"runs begun again: {findings.runs_repeated}",
        f"refusals the purchasers met: {_listed(tally.refusals) or 'none'}",
        f"longest wait for an acceptance {max(tally.accepted_after_s, default=0):.0f} s,"
        f" for a result {max(tally.finished_after_s, default=0):.0f} s",
    ]
    lines += [f"UNEXPECTED ANSWER: {what} ({n}x)" for what, n in tally.unexpected.items()]
    lines += [f"VIOLATION: {violation}" for violation in findings.violations]
    lines.append("The books are in order." if findings.in_order else "The books are NOT in order.")
    return "\n".join(lines)


def document(findings: Findings) -> dict[str, Any]:
    """For ``build/chaos.json``."""
    books, tally, plan = findings.books, findings.tally, findings.plan
    return {
        "seed": plan.seed,
        "kills": dict(tally.kills),
        "purchases": len(books.told),
        "accepted": accepted(findings),
        "jobs": dict(Counter(job.state for job in books.recorded)),
        "payments": len(books.booked),
        "results_submitted": sum(len(payment.submitted) for payment in books.booked),
        "runs_repeated": findings.runs_repeated,
        "refusals": dict(tally.refusals),
        "unexpected": dict(tally.unexpected),
        "longest_acceptance_s": round(max(tally.accepted_after_s, default=0.0), 1),
        "longest_result_s": round(max(tally.finished_after_s, default=0.0), 1),
        "killing_s": round(findings.killing_s, 1),
        "ending_s": round(findings.ending_s, 1),
        "violations": [str(violation) for violation in findings.violations],
    }


def accepted(findings: Findings) -> int:
    return sum(bool(told.jobs) for told in findings.books.told)


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))
