"""The auditor of ``make chaos``: silent about books in order, loud about each way to cook them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace

import pytest

from scripts.chaos.audit import RULES, Booked, Books, Recorded, Told, audit

IDENTIFIER = "aabbccddeeff0011"
RESULT = 'Two "lines"\nof text.'
#: SHA-256 of aabbccddeeff0011;Two \"lines\"\nof text. with the escapes written out.
RESULT_HASH = hashlib.sha256(rb"aabbccddeeff0011;Two \"lines\"\nof text.").hexdigest()
OTHER_HASH = "5f" * 32

IN_ORDER = Books(
    told=(
        Told(IDENTIFIER, frozenset({"paid"}), "completed", frozenset({RESULT})),
        Told("0011", frozenset()),  # was never answered
    ),
    recorded=(
        Recorded("paid", IDENTIFIER, False, "completed", RESULT_HASH, "settled", 1, 1),
        Recorded("given-up", IDENTIFIER, False, "failed", None, "none", 0, 1),
        Recorded("free", None, True, "completed", OTHER_HASH, "none", 1, 1),
    ),
    booked=(Booked("paid", "ResultSubmitted", RESULT_HASH, (RESULT_HASH,)),),
)


def told(**changes: object) -> Callable[[Books], Books]:
    return lambda books: replace(books, told=(replace(books.told[0], **changes),))


def recorded(place: int, **changes: object) -> Callable[[Books], Books]:
    def change(books: Books) -> Books:
        jobs = list(books.recorded)
        jobs[place] = replace(jobs[place], **changes)
        return replace(books, recorded=tuple(jobs))

    return change


def booked(*payments: Booked) -> Callable[[Books], Books]:
    return lambda books: replace(books, booked=payments)


PAID = IN_ORDER.booked[0]
CORRUPTIONS: list[tuple[str, Callable[[Books], Books]]] = [
    ("one answer per purchase", told(jobs=frozenset({"paid", "free"}))),
    ("accepted jobs are completed", told(jobs=frozenset({"nobody's"}))),
    ("accepted jobs are completed", told(jobs=frozenset({"given-up"}))),
    ("accepted jobs are completed", told(status="running")),
    ("all jobs are final", recorded(1, state="creating")),
    ("all jobs are final", recorded(1, state="awaiting_input")),
    ("one payment per paid job", booked(PAID, PAID)),
    ("one payment per paid job", booked()),
    ("one payment per paid job", booked(PAID, replace(PAID, job="free"))),
    ("no payment in vain", booked(PAID, replace(PAID, job="nobody's"))),
    ("no payment in vain", booked(PAID, replace(PAID, job=None))),
    ("no payment in vain", booked(PAID, replace(PAID, job="given-up"))),
    ("one sale per purchase", booked(PAID, replace(PAID, job="given-up"))),
    ("one result per paid job", booked(replace(PAID, submitted=()))),
    ("one result per paid job", booked(replace(PAID, submitted=(RESULT_HASH, RESULT_HASH)))),
    ("one result per paid job", booked(replace(PAID, state="FundsLocked"))),
    ("one result per paid job", booked(replace(PAID, result_hash=OTHER_HASH))),
    ("one result per paid job", recorded(0, settlement="lost")),
    ("the result shown is the one settled", told(results=frozenset({"another"}))),
    ("the result shown is the one settled", told(results=frozenset({RESULT, "another"}))),
    ("the result shown is the one settled", told(results=frozenset())),
    ("the result shown is the one settled", recorded(0, result_hash=OTHER_HASH)),
    ("no job ends twice", recorded(0, completions=2, endings=2)),
    ("no job ends twice", recorded(0, endings=2)),
]


def test_books_in_order_are_passed() -> None:
    assert audit(IN_ORDER) == ()


@pytest.mark.parametrize(("rule", "corrupt"), CORRUPTIONS)
def test_corrupted_book_is_found_out(rule: str, corrupt: Callable[[Books], Books]) -> None:
    violations = audit(corrupt(IN_ORDER))
    assert rule in {violation.rule for violation in violations}


def test_every_rule_is_seen_to_fail() -> None:
    assert {rule for rule, _ in CORRUPTIONS} == set(RULES)


def test_violation_tells_rule_job_and_fault() -> None:
    [violation] = audit(booked(PAID, PAID)(IN_ORDER))
    assert str(violation) == "one payment per paid job: paid: has 2 payments"
