"""Bodies as clients send them, old names included."""

from __future__ import annotations

import pytest

from service.api import schemas
from service.errors import InvalidInput

IDENTIFIER = "a1b2c3d4e5f60718"


@pytest.mark.parametrize("name", ["identifier_from_purchaser", "identifierFromPurchaser"])
@pytest.mark.parametrize("data", ["input_data", "inputData", "input"])
def test_start_job_takes_every_name_in_use(name: str, data: str) -> None:
    sent = schemas.parse(schemas.StartJob, {name: IDENTIFIER, data: {"a": 1}, "unknown": True})
    assert sent.identifier_from_purchaser == IDENTIFIER
    assert sent.input_data == {"a": 1}


def test_start_job_without_anything_is_an_empty_input() -> None:
    sent = schemas.parse(schemas.StartJob, {})
    assert sent.identifier_from_purchaser is None
    assert sent.input_data == {}


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"input_data": []}, "/input_data"),
        ({"input_data": None}, "/input_data"),
        ({"input_data": "text"}, "/input_data"),
        ({"identifier_from_purchaser": 12}, "/identifier_from_purchaser"),
        ({"identifier_from_purchaser": "a" * 257}, "/identifier_from_purchaser"),
        ({"flow": 1}, "/flow"),
    ],
)
def test_wrong_types_are_named_by_pointer(body: dict[str, object], pointer: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        schemas.parse(schemas.StartJob, body)
    assert [fault.pointer for fault in refused.value.errors] == [pointer]


def test_every_fault_is_listed() -> None:
    with pytest.raises(InvalidInput) as refused:
        schemas.parse(schemas.ProvideInput, {"status_id": 1})
    assert {fault.pointer for fault in refused.value.errors} == {
        "/job_id",
        "/status_id",
        "/input_data",
    }


def test_faults_do_not_repeat_what_was_sent() -> None:
    with pytest.raises(InvalidInput) as refused:
        schemas.parse(schemas.StartJob, {"identifier_from_purchaser": ["hunter2"]})
    assert "hunter2" not in repr(refused.value.errors)


def test_pointers_are_escaped() -> None:
    assert schemas.pointer(("a/b", "c~d", 0)) == "/a~1b/c~0d/0"
