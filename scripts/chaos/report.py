"""The findings of a drill for people, and for programs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from scripts.chaos.drill import Findings

#: What follows it in the page is the last run that was recorded.
HEADING = "## The last recorded run\n"


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
    if (found := findings.figures) is not None:
        lines += [
            f"a paid start_job while the circuit is open: median {found.refused_median_ms:.1f} ms,"
            f" 99 % within {found.refused_p99_ms:.1f} ms, and"
            f" {found.calls_while_open} calls to the payment service"
            f" (a status request: median {found.status_median_ms:.1f} ms)",
            "a status request while the payment service hangs, relative to calm:"
            f" median {found.hanging_median_ratio:.2f}, 99th percentile"
            f" {found.hanging_p99_ratio:.2f}",
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
        "figures": asdict(findings.figures) if findings.figures else None,
        "violations": [str(violation) for violation in findings.violations],
    }


def record(findings: Findings, page: Path) -> None:
    """Put the run at the end of the page, in place of the one before."""
    kept, heading, _ = page.read_text().partition(HEADING)
    page.write_text(f"{kept}{heading or HEADING}\n```text\n{text(findings)}\n```\n")


def accepted(findings: Findings) -> int:
    return sum(bool(told.jobs) for told in findings.books.told)


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))
