"""Submitted input as a whole: all its faults at once, nothing repeated, bounds on size and time."""

from __future__ import annotations

import contextlib
import math
import time
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import InvalidInput
from service.mip.schema import FieldType, InputSchema
from service.mip.validation import MAX_FAULTS, MAX_VALUES, validate_input
from tests.support.mip import DATA, faults, schema


def test_unknown_members_are_ignored_and_not_passed_on() -> None:
    assert validate_input(schema("text"), {"a": "x", "extra": {"deep": [1]}}) == {"a": "x"}


def test_unknown_members_must_still_be_storable() -> None:
    found = faults(schema("text"), {"a": "x", "extra": [{"b/c": "\x00"}]})
    assert [pointer for pointer, _ in found] == ["/input_data/extra/0/b~1c"]


def test_every_fault_is_listed_once() -> None:
    of = InputSchema.model_validate(
        {
            "input_data": [
                {"id": "a/b", "type": "number"},
                {"id": "m~n", "type": "email", "validations": [{"validation": "min", "value": 9}]},
                {"id": "ok", "type": "text"},
                {"id": "deep", "type": "text"},
            ]
        }
    )
    found = faults(of, {"a/b": "x", "m~n": "nobody", "ok": "fine", "deep": {"x": "\x00"}})
    assert [pointer for pointer, _ in found] == [
        "/input_data/deep/x",
        "/input_data/a~1b",
        "/input_data/m~0n",
        "/input_data/m~0n",
    ]


@pytest.mark.parametrize(
    "extra",
    [
        [0] * MAX_VALUES,
        [[]] * MAX_VALUES,
        [[0] * 1000] * 20,
        {str(i): 0 for i in range(MAX_VALUES)},
    ],
)
def test_number_of_values_is_bounded(extra: Any) -> None:
    [(pointer, detail)] = faults(schema("text"), {"a": "x", "extra": extra})
    assert pointer == "/input_data"
    assert f"more than {MAX_VALUES} values" in detail


def test_number_of_faults_is_bounded() -> None:
    assert len(faults(schema("text"), {"x": ["\x00"] * 200})) == MAX_FAULTS
    assert len(faults(schema("file"), {"a": ["x"] * 200})) == MAX_FAULTS


def test_no_value_is_repeated_in_a_message() -> None:
    for kind in ("text", "email", "url", "number", "radio", "date", "color", "file", "hidden"):
        assert "s3cret" not in str(faults(schema(kind, ("optional", None)), {"a": {"s3cret": 1}}))


def test_input_that_is_no_object_is_refused() -> None:
    bad: Any = ["a"]
    assert faults(schema("text"), bad)[0][0] == "/input_data"


EVERY_TYPE = InputSchema.model_validate(
    {
        "input_data": [
            {
                "id": kind,
                "type": kind,
                "data": DATA.get(kind, {}),
                "validations": [
                    {"validation": "optional"},
                    *[{"validation": "format", "value": f} for f in ("email", "url", "integer")],
                ],
            }
            for kind in get_args(FieldType)
        ]
    }
)
HARD_TEXT = st.text() | st.text(st.characters()) | st.sampled_from(["\ud800", "\x00", "1e999"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | HARD_TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(HARD_TEXT, inner, max_size=4),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(get_args(FieldType)) | HARD_TEXT, JSON))
def test_any_json_is_accepted_or_invalid_input(input_data: dict[str, Any]) -> None:
    try:
        found = validate_input(EVERY_TYPE, input_data)
    except InvalidInput as refused:
        error = refused
    else:
        assert found.keys() <= {field.id for field in EVERY_TYPE.fields}
        # What the runner gets is itself sound input: checking is idempotent.
        assert validate_input(EVERY_TYPE, found) == found
        return
    assert 0 < len(error.errors) <= MAX_FAULTS


@pytest.mark.parametrize("kind", ["email", "url", "tel", "number", "datetime-local"])
@pytest.mark.parametrize("piece", ["a", "1", "a.", "a@", "-", "/", "%41", "é"])
def test_time_to_check_grows_with_the_text_at_most_linearly(kind: str, piece: str) -> None:
    """100 times the text may take 100 times as long, with a wide margin; not 10 000 times."""
    of = schema(kind, ("format", "tel-pattern"))

    def seconds(count: int, prefix: str) -> float:
        best = math.inf
        for _ in range(3):
            started = time.perf_counter()
            with contextlib.suppress(InvalidInput):
                validate_input(of, {"a": prefix + piece * count})
            best = min(best, time.perf_counter() - started)
        return best

    for prefix in ("", "http://", "a@"):
        assert seconds(20_000, prefix) < 1500 * max(seconds(200, prefix), 2e-5)
