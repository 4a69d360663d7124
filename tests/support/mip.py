"""Schemas of one field, and what is found of input to them."""

from __future__ import annotations

from typing import Any

import pytest

from service.errors import InvalidInput
from service.mip.schema import InputSchema
from service.mip.validation import validate_input

DATA: dict[str, dict[str, Any]] = {
    "radio": {"values": ["red", "green", "blue"]},
    "option": {"values": ["red", "green", "blue"]},
    "multiselect": {"values": ["red", "green", "blue"]},
    "file": {"outputFormat": "url"},
    "hidden": {"value": "constant"},
}


def schema(kind: str, *validations: tuple[str, Any], **data: Any) -> InputSchema:
    return InputSchema.model_validate(
        {
            "input_data": [
                {
                    "id": "a",
                    "type": kind,
                    "data": {**DATA.get(kind, {}), **data},
                    "validations": [{"validation": k, "value": v} for k, v in validations],
                }
            ]
        }
    )


def accepted(of: InputSchema, value: Any) -> Any:
    return validate_input(of, {"a": value})["a"]


def faults(of: InputSchema, input_data: dict[str, Any]) -> list[tuple[str, str]]:
    with pytest.raises(InvalidInput) as caught:
        validate_input(of, input_data)
    return [(fault.pointer, fault.detail) for fault in caught.value.errors]


def fault(of: InputSchema, value: Any) -> str:
    [(pointer, detail)] = faults(of, {"a": value})
    assert pointer == "/input_data/a"
    return detail
