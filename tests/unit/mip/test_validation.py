"""Submitted values one by one: every type, every validation, and the purchaser's identifier."""

from __future__ import annotations

import math
from typing import Any, get_args

import pytest

from service.errors import InvalidInput
from service.mip.schema import FieldType
from service.mip.validation import (
    MAX_ITEMS,
    MAX_TEXT,
    check_purchaser_identifier,
    validate_input,
)
from tests.support.mip import accepted, fault, faults, schema


@pytest.mark.parametrize(
    ("kind", "value", "normal"),
    [
        ("text", "x", "x"),
        ("string", " x ", " x "),
        ("textarea", "a\nb", "a\nb"),
        ("password", "p", "p"),
        ("search", "s", "s"),
        ("tel", "call me", "call me"),
        ("email", "jo+x@mail.example.org", "jo+x@mail.example.org"),
        ("url", "https://example.org/a?b#c", "https://example.org/a?b#c"),
        ("number", 3, 3),
        ("number", 3.25, 3.25),
        ("number", " -4 ", -4),
        ("number", "2.5e3", 2500.0),
        ("range", "7", 7),
        ("boolean", False, False),
        ("checkbox", True, True),
        ("radio", "green", "green"),
        ("radio", 1, "green"),
        ("radio", [1], "green"),
        ("option", "blue", ["blue"]),
        ("option", ["blue", "red"], ["blue", "red"]),
        ("option", 0, ["red"]),
        ("option", [2, "red"], ["blue", "red"]),
        ("multiselect", [0, 1], ["red", "green"]),
        ("date", "2024-02-29", "2024-02-29"),
        ("datetime-local", "2024-02-29T23:59", "2024-02-29T23:59"),
        ("datetime-local", "2024-02-29T23:59:58", "2024-02-29T23:59:58"),
        ("time", "00:00", "00:00"),
        ("time", "23:59:59", "23:59:59"),
        ("month", "2024-12", "2024-12"),
        ("week", "2020-W53", "2020-W53"),
        ("color", "#1e90FF", "#1e90FF"),
        ("file", "https://example.org/f.pdf", ["https://example.org/f.pdf"]),
        ("file", ["http://example.org/f"], ["http://example.org/f"]),
        ("hidden", "constant", "constant"),
        ("hidden", None, "constant"),
    ],
)
def test_sound_value_is_accepted_and_normalised(kind: str, value: Any, normal: Any) -> None:
    found = accepted(schema(kind), value)
    assert found == normal
    assert type(found) is type(normal)


@pytest.mark.parametrize(
    ("kind", "value", "says"),
    [
        ("text", 1, "must be a text"),
        ("text", ["x"], "must be a text"),
        ("text", "x" * (MAX_TEXT + 1), f"at most {MAX_TEXT} characters"),
        ("email", "jo@", "e-mail"),
        ("email", "jo@ex ample.org", "e-mail"),
        ("email", "jo@example.org\n", "e-mail"),
        ("email", "a" * 65 + "@example.org", "e-mail"),
        ("url", "example.org", "http"),
        ("url", "javascript:alert(1)", "http"),
        ("url", "http://", "http"),
        ("url", "https:///path", "http"),
        ("url", "https://exa mple.org", "http"),
        ("url", "https://example.org/\n", "http"),
        ("url", "https://example.org\\@evil.org", "http"),
        ("url", "https://[::1", "http"),
        ("url", "https://example.org:99999/", "http"),
        ("number", True, "must be a number"),
        ("number", "1,5", "must be a number"),
        ("number", "٣", "must be a number"),
        ("number", "nan", "must be a number"),
        ("number", "1e999", "must be a number"),
        ("number", "9" * 60, "must be a number"),
        ("number", "1_000", "must be a number"),
        ("number", math.nan, "finite"),
        ("number", 10**400, "2^53-1"),
        ("boolean", 1, "true or false"),
        ("boolean", "true", "true or false"),
        ("checkbox", "on", "true or false"),
        ("radio", "pink", "the schema's values"),
        ("radio", 3, "positions 0 to 2"),
        ("radio", -1, "positions 0 to 2"),
        ("radio", True, "the schema's values"),
        ("radio", 1.0, "the schema's values"),
        ("radio", ["red", "blue"], "exactly one"),
        ("option", ["red", 0], "twice"),
        ("option", [["red"]], "the schema's values"),
        ("option", {"red": True}, "the schema's values"),
        ("option", [0] * (MAX_ITEMS + 1), f"at most {MAX_ITEMS}"),
        ("date", "2023-02-29", "YYYY-MM-DD"),
        ("date", "0000-01-01", "YYYY-MM-DD"),
        ("date", "2023-2-9", "YYYY-MM-DD"),
        ("date", "20230209", "YYYY-MM-DD"),
        ("date", 20230209, "must be a text"),
        ("datetime-local", "2023-02-09T12:00Z", "without a zone"),
        ("datetime-local", "2023-02-09 12:00", "without a zone"),
        ("datetime-local", "2023-02-09T24:00", "without a zone"),
        ("time", "24:00", "HH:MM"),
        ("time", "12:60", "HH:MM"),
        ("month", "2023-13", "YYYY-MM"),
        ("week", "2021-W53", "YYYY-Www"),
        ("week", "2021-W00", "YYYY-Www"),
        ("color", "#fff", "colour"),
        ("color", "red", "colour"),
        ("file", "ftp://example.org/f", "http"),
        ("file", [1], "http"),
        ("file", "data:text/plain,x", "http"),
        ("hidden", "other", "left out"),
        ("text", "a\x00b", "NUL"),
        ("text", "\ud83d", "surrogate"),
    ],
)
def test_unsound_value_is_one_fault(kind: str, value: Any, says: str) -> None:
    assert says in fault(schema(kind), value)


@pytest.mark.parametrize("kind", sorted(set(get_args(FieldType)) - {"hidden", "none"}))
@pytest.mark.parametrize("value", [None, "", "  ", []])
def test_blank_is_unsent(kind: str, value: Any) -> None:
    assert "is required" in fault(schema(kind), value)
    assert validate_input(schema(kind, ("optional", "true")), {"a": value}) == {}
    assert "is required" in fault(schema(kind, ("optional", "false")), value)


def test_missing_required_field_is_a_fault_at_its_pointer() -> None:
    assert faults(schema("text"), {}) == [("/input_data/a", "is required")]


def test_sound_value_of_an_optional_field_is_still_checked() -> None:
    assert "e-mail" in fault(schema("email", ("optional", None)), "nobody")


def test_none_takes_no_value() -> None:
    assert validate_input(schema("none", ("min", "3")), {"a": {"any": 1}}) == {}


@pytest.mark.parametrize(
    ("kind", "validations", "good", "bad", "says"),
    [
        ("text", [("min", "3")], "abc", "ab", "at least 3 characters (it has 2)"),
        ("text", [("max", "3")], "abc", "abcd", "at most 3 characters (it has 4)"),
        ("email", [("max", "6")], "a@b.co", "aa@b.co", "at most 6"),
        ("number", [("min", "0.1")], 0.1, 0.09, "at least 0.1"),
        ("number", [("max", "3")], "3", "3.001", "at most 3"),
        ("range", [("max", "3")], 3, 4, "at most 3"),
        ("option", [("min", "2")], [0, 1], [0], "at least 2 choices (it has 1)"),
        ("option", [("max", "1")], [0], [0, 1], "at most 1 choices (it has 2)"),
        ("date", [("min", "2024-01-31")], "2024-01-31", "2024-01-30", "at least 2024-01-31"),
        ("date", [("max", "2024-01-31")], "2024-01-31", "2024-02-01", "at most 2024-01-31"),
        ("time", [("min", "09:00")], "09:00:00", "08:59:59", "at least 09:00"),
        ("month", [("max", "2024-02")], "2024-02", "2024-03", "at most"),
        ("week", [("min", "2020-W53")], "2021-W01", "2020-W52", "at least"),
        (
            "datetime-local",
            [("max", "2024-01-01T00:00")],
            "2024-01-01T00:00:00",
            "2024-01-01T00:00:01",
            "at most",
        ),
        ("file", [("min", "2")], ["http://a.org/1"] * 2, ["http://a.org/1"], "at least 2 files"),
        ("file", [("accept", ".pdf,image/*")], "http://a.org/x.PDF", "http://a.org/x.exe", "type"),
        ("file", [("accept", ".pdf,image/*")], "http://a.org/x.png", "http://a.org/x.txt", "type"),
        ("file", [("accept", "image/*")], "http://a.org/dl?id=7", "http://a.org/x.html", "type"),
        ("text", [("format", "email")], "a@b.org", "a@", "e-mail"),
        ("text", [("format", "url")], "http://a.org", "a.org", "URL"),
        ("text", [("format", "integer")], "-12", "1.5", "whole number"),
        ("text", [("format", "tel-pattern")], "+49 (30) 12-34", "call me", "telephone"),
        ("tel", [("format", "tel_pattern")], "030/1234", "()-/", "telephone"),
        (
            "file",
            [("accept", "image/*")],
            "http://a.org/x.neverheard",
            "http://a.org/x.pdf",
            "type",
        ),
        ("file", [("accept", ".pdf")], "http://a.org/x.pdf", "http://a.org/x.neverheard", "type"),
        ("number", [("format", "integer")], 4, 4.5, "whole number"),
        ("text", [("min", "2"), ("min", "4")], "abcd", "abc", "at least 4"),
    ],
)
def test_validation_holds_at_its_bound_and_not_beyond(
    kind: str, validations: list[tuple[str, str]], good: Any, bad: Any, says: str
) -> None:
    of = schema(kind, *validations)
    accepted(of, good)
    assert says in fault(of, bad)


def test_unknown_format_is_ignored() -> None:
    assert accepted(schema("text", ("format", "iban")), "x") == "x"


def test_integer_format_gives_an_int() -> None:
    found = accepted(schema("number", ("format", "integer")), "5.0")
    assert (found, type(found)) == (5, int)


def test_range_keeps_its_own_bounds_and_steps_exactly() -> None:
    of = schema("range", min=0, max=1, step=0.1)
    assert accepted(of, 0.3) == 0.3
    assert "steps of 0.1" in fault(of, 0.35)
    assert "at most 1" in fault(of, 1.1)
    assert "at least 0" in fault(of, -0.1)


def test_checkbox_with_values_is_a_list_of_choices() -> None:
    of = schema("checkbox", values=["x", "y"])
    assert accepted(of, [1]) == ["y"]
    assert "the schema's values" in fault(of, True)


def test_strings_win_where_choices_look_like_positions() -> None:
    of = schema("option", values=["1", "0"])
    assert accepted(of, "1") == ["1"]
    assert accepted(of, 1) == ["0"]


@pytest.mark.parametrize(
    "identifier", ["aabbccddeeff00", "AABBCCDDEEFF0011", "a" * 26, "01234567890123456789"]
)
def test_purchaser_identifier_accepted(identifier: str) -> None:
    check_purchaser_identifier(identifier)


@pytest.mark.parametrize(
    "identifier",
    ["", "a" * 12, "a" * 13, "a" * 15, "a" * 28, "g" * 16, "resume-job-123", "a" * 14 + "\n",
     "١" * 14],
)  # fmt: skip
def test_purchaser_identifier_refused(identifier: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        check_purchaser_identifier(identifier)
    assert caught.value.errors[0].pointer == "/identifier_from_purchaser"
