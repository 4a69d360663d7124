"""Input schemas: what a flow may declare, and what purchasers read of it."""

from __future__ import annotations

from typing import Any, get_args

import pytest
from pydantic import ValidationError

from service.mip.schema import FieldType, InputSchema


def field(kind: str = "text", **more: Any) -> dict[str, Any]:
    return {"id": "a", "type": kind, "name": "A", **more}


def rule(kind: str, value: Any = None) -> dict[str, Any]:
    return {"validation": kind, "value": value}


def read(*fields: dict[str, Any]) -> InputSchema:
    return InputSchema.model_validate({"input_data": list(fields)})


DATA: dict[str, dict[str, Any]] = {
    "radio": {"values": ["x", "y"]},
    "option": {"values": ["x", "y"]},
    "multiselect": {"values": ["x", "y"]},
    "file": {"outputFormat": "url"},
    "hidden": {"value": "v"},
}


@pytest.mark.parametrize("kind", get_args(FieldType))
def test_every_type_of_the_standard_is_read_and_emitted(kind: str) -> None:
    given = field(kind, data=DATA.get(kind, {"label": "A"}))
    assert read(given).document() == {"input_data": [given]}


def test_name_is_always_emitted() -> None:
    schema = read({"id": "topic", "type": "text"})
    assert schema.document()["input_data"][0]["name"] == "topic"


def test_validation_values_are_emitted_as_strings() -> None:
    given = field("number", validations=[rule("min", 1), rule("max", 2.5), rule("optional")])
    emitted = read(given).document()["input_data"][0]["validations"]
    assert emitted == [
        {"validation": "min", "value": "1"},
        {"validation": "max", "value": "2.5"},
        {"validation": "optional", "value": "true"},
    ]


def test_document_is_the_same_for_any_order_of_keys() -> None:
    one = read({"type": "text", "name": "A", "id": "a", "data": {"label": "l", "default": "d"}})
    other = read({"data": {"default": "d", "label": "l"}, "id": "a", "name": "A", "type": "text"})
    assert str(one.document()) == str(other.document())


def test_groups_are_flattened_in_order() -> None:
    schema = InputSchema.model_validate(
        {
            "input_groups": [
                {"id": "g1", "title": "One", "input_data": [{"id": "a", "type": "text"}]},
                {"id": "g2", "title": "Two", "input_data": [{"id": "b", "type": "text"}]},
            ]
        }
    )
    assert [f.id for f in schema.fields] == ["a", "b"]
    assert [g["title"] for g in schema.document()["input_groups"]] == ["One", "Two"]


@pytest.mark.parametrize(
    ("value", "optional"),
    [(None, True), ("true", True), (True, True), ("false", False), (False, False), ("", True)],
)
def test_optional_unless_it_says_false(value: Any, optional: bool) -> None:
    assert read(field(validations=[rule("optional", value)])).fields[0].optional is optional


def test_field_is_required_by_default() -> None:
    assert read(field()).fields[0].optional is False


@pytest.mark.parametrize(
    ("document", "says"),
    [
        ({}, "exactly one of"),
        ({"input_data": [], "input_groups": []}, "exactly one of"),
        ({"input_data": [field(), field()]}, "used twice"),
        (
            {"input_groups": [{"id": g, "title": "", "input_data": [field()]} for g in "xy"]},
            "used twice",
        ),
        (
            {"input_groups": [{"id": "g", "title": "", "input_data": []} for _ in "xy"]},
            "group id",
        ),
        ({"input_data": [{"id": str(i), "type": "text"} for i in range(201)]}, "200"),
        (
            {
                "input_groups": [
                    {
                        "id": group,
                        "title": "",
                        "input_data": [field(id=f"{group}{i}") for i in range(101)],
                    }
                    for group in "xy"
                ]
            },
            "at most 200",
        ),
        ({"input_data": [field(id="\x00")]}, "NUL"),
        ({"input_data": [field(data={"label": "\ud800"})]}, "surrogate|valid string"),
        ({"input_data": [field("datetime")]}, "Input should be"),
        ({"input_data": [field(required=True)]}, "not permitted"),
        ({"input_data": [{"type": "text", "name": "A"}]}, "required"),
        ({"input_data": [field(id="")]}, "at least 1"),
    ],
)
def test_unsound_schema_is_refused(document: Any, says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        InputSchema.model_validate(document)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (field("option"), "needs data.values"),
        (field("radio", data={"values": []}), "needs data.values"),
        (field("checkbox", data={"values": []}), "needs data.values"),
        (field("option", data={"values": ["x", "x"]}), "twice"),
        (field("option", data={"values": [""]}), "at least 1"),
        (field("option", data={"values": [1]}), "string"),
        (field("file"), "outputFormat"),
        (field("file", data={"outputFormat": "base64"}), "url"),
        (field("hidden"), "data.value"),
        (field(validations=[rule("accept", ".pdf")]), "type file"),
        (field(validations=[rule("required", "true")]), "optional"),
        (field(validations=[rule("min")]), "needs a value"),
        (field(validations=[rule("max", "")]), "needs a value"),
        (field(validations=[rule("min", "-1")]), "whole number"),
        (field(validations=[rule("min", "1.5")]), "whole number"),
        (field(validations=[rule("min", "5"), rule("max", "4")]), "at least min"),
        (field("number", validations=[rule("min", "low")]), "must be a number"),
        (field("number", validations=[rule("min", "1e400")]), "must be a number"),
        (field("date", validations=[rule("min", "2025-02-30")]), "exists"),
        (field("week", validations=[rule("max", "2025-W53")]), "exists"),
        (field("boolean", validations=[rule("min", "1")]), "means nothing"),
        (field("color", validations=[rule("max", "1")]), "means nothing"),
        (field("range", data={"min": 5, "max": 1}), "greater"),
        (field("range", data={"step": 0}), "greater than 0"),
        (field("option", data={"values": ["x"]}, validations=[rule("min", "2")]), "more choices"),
    ],
)
def test_unsound_field_is_refused(given: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        read(given)


def test_none_ignores_all_validations() -> None:
    assert read(field("none", validations=[rule("min", "whatever")])).fields[0].type == "none"
