"""The profile of a table: delimiters, types, gaps, numbers, and texts that try to break out."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from service.runners.builtin import csv_profile
from service.runners.models import Done, Failed, RunnerSpec, RunOutcome, RunRequest


class Profile:
    slug = "csv-profile"
    runner = RunnerSpec("builtin", "csv-profile")


def run(text: str, **inputs: Any) -> RunOutcome:
    inputs = {"csv": text, **inputs}
    return csv_profile.run(
        RunRequest(UUID(int=1), Profile(), "standard", inputs, (), datetime.now(UTC))
    )


def profile(text: str, **inputs: Any) -> str:
    outcome = run(text, **inputs)
    assert isinstance(outcome, Done)
    return outcome.result


def columns(text: str, **inputs: Any) -> dict[str, list[str]]:
    """The cells of each column's line, by its name."""
    lines = profile(text, **inputs).split("|---|---|---|---|---|---|---|---|\n")[1].splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines if line]
    return {name: rest for name, *rest in cells}


def test_types_gaps_and_ranges() -> None:
    found = columns("i,n,b,d,t,e\n1,1.5,yes,2025-01-31,x,\n3,,no,2025-01-30,x,NA\n2,2e1,yes,,y,\n")
    assert found["i"] == ["integer", "0", "3", "1", "3", "2", "1 (1), 3 (1), 2 (1)"]
    assert found["n"] == ["number", "1 (33.3 %)", "2", "1.5", "20", "10.75", "1.5 (1), 2e1 (1)"]
    assert found["b"][0] == "boolean"
    assert found["d"][:5] == ["date", "1 (33.3 %)", "2", "2025-01-30", "2025-01-31"]
    assert found["t"] == ["text", "0", "2", "", "", "", "x (2), y (1)"]
    assert found["e"][:3] == ["empty", "3 (100.0 %)", "0"]


def test_long_digits_are_no_quantity() -> None:
    assert columns("id\n" + "9" * 30)["id"][0] == "text"


def test_date_must_exist() -> None:
    assert columns("d\n2025-02-30")["d"][0] == "text"


@pytest.mark.parametrize("sign", [",", ";", "\t", "|"])
def test_delimiter_is_found(sign: str) -> None:
    assert list(columns(f"a{sign}b\n1{sign}2\n3{sign}4")) == ["a", "b"]


def test_named_delimiter_is_taken() -> None:
    assert list(columns("a;b\n1,5;2", delimiter="semicolon")) == ["a", "b"]
    assert len(columns("a;b\n1,5;2,0", delimiter="comma")) == 3


def test_without_header_columns_are_numbered() -> None:
    assert columns("1,2\n3,4", header=False)["column 1"][3:5] == ["1", "3"]


def test_quotes_hold_delimiters_and_lines() -> None:
    assert columns('a,b\n"x, y","two\nlines"')["b"][-1] == "two lines (1)"


def test_cell_cannot_break_out_of_the_table() -> None:
    line = profile('a,b\n"x|y\n| evil |",\\|').splitlines()[-2]
    assert line.count("|") - line.count("\\|") == 9


def test_ragged_and_repeated_rows_are_counted() -> None:
    text = profile("a,b\n1,2\n1,2\n3\n")
    assert "- Rows of another width than the first: 1" in text
    assert "- Rows that repeat an earlier one: 1" in text


def test_wide_table_is_cut() -> None:
    assert "The first 50 of 51 columns" in profile(",".join("abc" for _ in range(51)))


@pytest.mark.parametrize("text", ["\n\n", ",,,", '"never closed\n1,2', 'a\n"x"y'])
def test_no_table_fails_for_good(text: str) -> None:
    outcome = run(text)
    assert isinstance(outcome, Failed)
    assert not outcome.retryable


@pytest.mark.parametrize(
    "text", ["," * 100_000, "a\n" * 50_000, '"' * 100_000, "1" * 100_000, "\r" * 99_999 + "a"]
)
def test_hostile_table_takes_bounded_time(text: str) -> None:
    started_s = time.perf_counter()
    run(text)
    assert time.perf_counter() - started_s < 60  # well below a second on an idle machine
