"""The demonstration flows keep what they promise: the demo's output is what the flow gives."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest

from service.flows.definition import FlowDefinition
from service.flows.importing import read_definitions
from service.mip.validation import validate_input
from service.runners.builtin.runner import BUILTINS
from service.runners.models import Answer, Done, NeedsInput, RunRequest

FILE = Path(__file__).parents[3] / "config/flows/demonstration.toml"
DEFINITIONS = {definition.slug: definition for definition in read_definitions(FILE)}
#: The purchaser's answers to the questions of the demo.
ANSWERS = {"tailored-letter": {"reference": "4711"}}


def request_for(definition: FlowDefinition) -> RunRequest:
    return RunRequest(
        job_id=UUID(int=1),
        flow=definition.flow(definition.first_uid()),
        variant=definition.default_variant,
        inputs=validate_input(definition.input_schema, definition.demo.input),
        answers=(),
        deadline=datetime.now(UTC) + timedelta(hours=1),
    )


@pytest.mark.parametrize("slug", sorted(DEFINITIONS))
def test_demo_output_is_what_the_flow_gives(slug: str) -> None:
    definition = DEFINITIONS[slug]
    request = request_for(definition)
    work = BUILTINS[definition.runner.target]
    outcome = work(request)
    if isinstance(outcome, NeedsInput):
        answer = Answer(outcome.request_id, validate_input(outcome.schema, ANSWERS[slug]))
        outcome = work(replace(request, answers=(answer,)))
    assert outcome == Done(definition.demo.output)


def test_there_is_one_of_each_kind() -> None:
    free = {slug for slug, d in DEFINITIONS.items() if any(v.free for v in d.variants.values())}
    paid = {slug for slug, d in DEFINITIONS.items() if not all(v.free for v in d.variants.values())}
    asking = {
        slug for slug, d in DEFINITIONS.items()
        if isinstance(BUILTINS[d.runner.target](request_for(d)), NeedsInput)
    }  # fmt: skip
    assert free == {"text-summary", "tailored-letter"}
    assert paid == set(DEFINITIONS)
    assert asking == {"tailored-letter"}


def test_agents_are_told_apart() -> None:
    agents = [
        variant.agent_identifier
        for definition in DEFINITIONS.values()
        for variant in definition.variants.values()
        if not variant.free
    ]
    assert len(set(agents)) == len(agents)
