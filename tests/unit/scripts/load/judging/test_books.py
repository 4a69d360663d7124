from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest

from scripts.chaos.audit import Violation
from scripts.load.judging.books import summary
from scripts.load.plan import Bought
from scripts.load.record import Sales

GOOD = Bought(
    group="purchasers",
    identifier="ab" * 8,
    free=False,
    job="job-1",
    paid=True,
    status="completed",
    results=["the result"],
    took_us=2_000_000,
    findings=[],
)


def bought(**more: Any) -> Bought:
    return GOOD.model_copy(update=more)


def test_a_sale_that_went_well_is_completed_and_nothing_else() -> None:
    found = summary([GOOD, GOOD], [], audited=True)

    assert (found.begun, found.paid, found.completed) == (2, 2, 2)
    assert (found.refused, found.failed, found.lost, found.doubled) == (0, 0, 0, 0)
    assert (found.wrong_hashes, found.wrong_times, found.findings) == (0, 0, [])
    assert found.latency is not None
    assert found.latency.max == 2000


def test_what_was_not_accepted_is_refused_and_not_lost() -> None:
    found = summary([bought(job=None, paid=False, status=None, took_us=None)], [], audited=True)

    assert (found.begun, found.refused, found.paid, found.lost) == (1, 1, 0, 0)


def test_what_was_paid_and_has_no_final_state_in_time_is_lost_also_without_books() -> None:
    found = summary([bought(status="running", took_us=None)], [], audited=False)

    assert found.lost == 1
    assert found.findings == ["job job-1: no result in time, it is running"]


def test_a_job_that_several_rules_find_lost_is_lost_once() -> None:
    violations = [
        Violation("accepted jobs are completed", "job-1", "was accepted and is running"),
        Violation("all jobs are final", "job-1", "is still running"),
    ]

    found = summary([bought(status="running")], violations, audited=True)

    assert found.lost == 1
    assert len(found.findings) == 2


@dataclass(frozen=True, slots=True)
class Expected:
    lost: int = 0
    doubled: int = 0
    wrong_hashes: int = 0
    wrong_times: int = 0

    @classmethod
    def of(cls, found: Sales) -> Expected:
        return cls(found.lost, found.doubled, found.wrong_hashes, found.wrong_times)


NOTHING = Expected()


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("accepted jobs are completed", replace(NOTHING, lost=1)),
        ("one payment per paid job", replace(NOTHING, doubled=1)),
        ("one sale per purchase", replace(NOTHING, doubled=1)),
        ("no job ends twice", replace(NOTHING, doubled=1)),
        ("the result shown is the one settled", replace(NOTHING, wrong_hashes=1)),
        ("one result per paid job", replace(NOTHING, wrong_hashes=1)),
    ],
)
def test_each_rule_of_the_audit_counts_as_what_it_means(rule: str, expected: Expected) -> None:
    found = summary([GOOD], [Violation(rule, "job-7", "why")], audited=True)

    assert Expected.of(found) == expected
    assert found.findings == [f"{rule}: job-7: why"]


def test_an_answer_that_can_not_be_used_is_wrong_and_an_empty_wallet_is_only_told() -> None:
    found = summary([bought(findings=[("form", "no id"), ("unpaid", "409")])], [], audited=True)

    assert Expected.of(found) == Expected(wrong_hashes=1)
    assert found.findings == ["no id", "409"]


def test_what_the_purchaser_itself_found_counts_and_is_told() -> None:
    found = summary(
        [bought(findings=[("hash", "another input hash"), ("time", "times out of order")])],
        [],
        audited=True,
    )

    assert Expected.of(found) == Expected(wrong_hashes=1, wrong_times=1)
    assert found.findings == ["another input hash", "times out of order"]
