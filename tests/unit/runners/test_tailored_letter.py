"""The letter that asks: a question for each purpose, the same one on every run."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from service.mip.validation import validate_input
from service.runners.builtin import tailored_letter
from service.runners.models import Answer, Done, Failed, NeedsInput, RunnerSpec, RunRequest

ANSWERS: dict[str, dict[str, Any]] = {
    "complaint": {"product": "a kettle", "bought_on": "2025-03-01", "wish": 2},
    "cancellation": {"reference": "4711", "ends_on": "2025-12-31"},
    "application": {"position": "baker", "strength": "I rise early."},
    "thank-you": {"occasion": "the tour", "tone": "warm"},
}


class Letter:
    slug = "tailored-letter"
    runner = RunnerSpec("builtin", "tailored-letter")


def request(purpose: str, *, job: int = 1, variant: str = "standard") -> RunRequest:
    inputs = {"purpose": purpose, "details": "As told.", "sender": "Ada", "recipient": "Bo"}
    return RunRequest(UUID(int=job), Letter(), variant, inputs, (), datetime.now(UTC))


def question(of: RunRequest) -> NeedsInput:
    outcome = tailored_letter.run(of)
    assert isinstance(outcome, NeedsInput)
    return outcome


@pytest.mark.parametrize("purpose", ANSWERS)
@pytest.mark.parametrize("variant", ["standard", "free"])
def test_answered_question_gives_the_letter(purpose: str, variant: str) -> None:
    first = request(purpose, variant=variant)
    asked = question(first)
    inputs = validate_input(asked.schema, ANSWERS[purpose])
    done = tailored_letter.run(replace(first, answers=(Answer(asked.request_id, inputs),)))
    assert isinstance(done, Done)
    assert "As told." in done.result
    assert ("Before you send it" in done.result) == (variant != "free")
    for value in inputs.values():
        assert value in done.result or value in ("repair", "warm")


def test_question_is_the_same_on_every_run_and_another_for_every_job() -> None:
    assert question(request("complaint")) == question(request("complaint"))
    ids = {question(request(p, job=j)).request_id for p in ANSWERS for j in (1, 2)}
    assert len(ids) == 2 * len(ANSWERS)


def test_answer_to_another_question_is_not_taken() -> None:
    stray = Answer("other", {"reference": "1"})
    assert isinstance(
        tailored_letter.run(replace(request("cancellation"), answers=(stray,))), NeedsInput
    )


def test_unknown_purpose_fails() -> None:
    assert isinstance(tailored_letter.run(request("threat")), Failed)
