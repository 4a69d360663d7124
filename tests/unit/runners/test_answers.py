"""Reading a runner's answer: every sound one, and every breach of the contract."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import RunnerUnavailable
from service.runners.answers import BREACH, RESULT_LIMIT_BYTES, Running, read_answer
from service.runners.models import Done, Failed, NeedsInput

SCHEMA = {"input_data": [{"id": "a", "type": "text", "name": "A"}]}


def read(document: Any) -> Any:
    return read_answer(json.dumps(document).encode())


def test_done() -> None:
    assert read({"status": "done", "result": "Zoë 🚀", "cost": 2**60}) == Done("Zoë 🚀")


def test_largest_result_is_taken() -> None:
    assert read({"status": "done", "result": "x" * RESULT_LIMIT_BYTES}) == Done(
        "x" * RESULT_LIMIT_BYTES
    )


def test_failed() -> None:
    error = {"code": "no-data", "message": "Nothing there.", "retryable": True}
    assert read({"status": "failed", "error": error}) == Failed("no-data", "Nothing there.", True)


def test_needs_input() -> None:
    outcome = read(
        {
            "status": "needs_input",
            "request_id": "q1",
            "input_schema": SCHEMA,
            "expires_at": "2030-01-01T00:00:00Z",
        }
    )
    assert isinstance(outcome, NeedsInput)
    assert outcome.schema.document() == SCHEMA
    assert outcome.expires_at == datetime(2030, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(("poll_after", "wait_s"), [(None, 2.0), (7, 7.0), (0, 0.05), (1e9, 60.0)])
def test_running_waits_within_bounds(poll_after: float | None, wait_s: float) -> None:
    answer = read({"status": "running", "poll_after": poll_after})
    assert isinstance(answer, Running)
    assert answer.wait_s(2.0) == wait_s


@pytest.mark.parametrize(
    "document",
    [
        [],
        None,
        "done",
        {},
        {"status": "succeeded", "result": "x"},
        {"status": "nul\x00\ud800", "result": "x"},
        {"status": "done"},
        {"status": "done", "result": ""},
        {"status": "done", "result": " \n"},
        {"status": "done", "result": {"text": "x"}},
        {"status": "done", "result": "a\x00b"},
        {"status": "done", "result": "a\ud800"},
        {"status": "done", "result": "x" * (RESULT_LIMIT_BYTES + 1)},
        {"status": "done", "result": "é" * (RESULT_LIMIT_BYTES // 2 + 1)},
        {"status": "running", "poll_after": -1},
        {"status": "running", "poll_after": "soon"},
        {"status": "failed"},
        {"status": "failed", "error": {"code": "x", "message": ""}},
        {"status": "failed", "error": {"code": "x", "message": "\x00"}},
        {"status": "needs_input", "request_id": "q", "input_schema": {}},
        {"status": "needs_input", "request_id": "q", "input_schema": {"input_data": []}},
        {"status": "needs_input", "request_id": "", "input_schema": SCHEMA},
        {"status": "needs_input", "request_id": "\x00", "input_schema": SCHEMA},
        {
            "status": "needs_input",
            "request_id": "q",
            "input_schema": SCHEMA,
            "expires_at": "2030-01-01T00:00:00",
        },
    ],
)
def test_breach_of_the_contract_fails_for_good_and_can_be_stored(document: Any) -> None:
    outcome = read(document)
    assert isinstance(outcome, Failed)
    assert (outcome.code, outcome.retryable) == (BREACH, False)
    assert outcome.message.isprintable()
    outcome.message.encode()


@pytest.mark.parametrize("body", [b"", b"<html>", b'{"status": "done"', b"\xff", b"[" * 100_000])
def test_body_that_is_no_json_may_be_whole_the_next_time(body: bytes) -> None:
    with pytest.raises(RunnerUnavailable):
        read_answer(body)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(st.sampled_from(["status", "result", "error", "request_id"]), inner)
            | st.fixed_dictionaries(
                {"status": st.sampled_from(["done", "running", "failed", "needs_input"])},
                optional={"result": inner, "error": inner, "poll_after": inner},
            )
        ),
        max_leaves=10,
    )
)
def test_any_json_is_an_outcome(document: Any) -> None:
    assert isinstance(read(document), Done | Failed | NeedsInput | Running)
