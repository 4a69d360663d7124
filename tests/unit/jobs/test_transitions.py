"""The guards in queries.sql and the table in models.py are the same state machine."""

from __future__ import annotations

import re
from importlib import resources

from service.jobs.models import TRANSITIONS, JobState


def moves_in_sql() -> set[tuple[JobState, JobState]]:
    text = resources.files("service.jobs").joinpath("queries.sql").read_text(encoding="utf-8")
    moves = set()
    for statement in text.split("-- name: ")[1:]:
        after = re.search(r"UPDATE jobs SET state = '(\w+)'", statement)
        if after is None:
            continue
        before = re.findall(r"(?<!SET )state = '(\w+)'", statement)
        assert before, f"this statement moves jobs from any state:\n{statement}"
        moves |= {(JobState(state), JobState(after[1])) for state in before}
    return moves


def test_statements_make_exactly_the_moves_of_the_table() -> None:
    table = {(before, after) for before, afters in TRANSITIONS.items() for after in afters}
    assert moves_in_sql() == table


def test_every_state_has_its_row_and_finished_ones_lead_nowhere() -> None:
    assert TRANSITIONS.keys() == set(JobState)
    assert not TRANSITIONS[JobState.COMPLETED]
    assert not TRANSITIONS[JobState.FAILED]
