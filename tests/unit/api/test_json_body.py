"""Strict JSON: one clear refusal for everything that would mean different things elsewhere."""

from __future__ import annotations

import pytest

from service.api.json_body import MAX_DEPTH, MAX_INTEGER, parse_object
from service.errors import MalformedBody


def nested(depth: int) -> bytes:
    """An object that is ``depth`` levels deep, itself included."""
    return b'{"a":' * (depth - 1) + b"{}" + b"}" * (depth - 1)


def test_an_object_is_read() -> None:
    assert parse_object(b'{"a":[1,2.5,"\xc3\xa4",null,true]}') == {"a": [1, 2.5, "ä", None, True]}


def test_an_escaped_pair_of_surrogates_is_one_character() -> None:
    assert parse_object(b'{"a":"\\ud83d\\ude00"}') == {"a": "\U0001f600"}


def test_largest_safe_integers_are_taken() -> None:
    assert parse_object(f'{{"a":{MAX_INTEGER},"b":-{MAX_INTEGER}}}'.encode()) == {
        "a": MAX_INTEGER,
        "b": -MAX_INTEGER,
    }


def test_deepest_nesting_is_taken() -> None:
    assert parse_object(nested(MAX_DEPTH))


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b"", "empty"),
        (b"  \n", "empty"),
        (b'{"a":1', "not valid JSON"),
        (b'{"a":1}x', "not valid JSON"),
        (b"\xef\xbb\xbf{}", "not valid JSON"),
        (b"[]", "must be a JSON object"),
        (b"null", "must be a JSON object"),
        (b'"text"', "must be a JSON object"),
        (b'{"a":NaN}', "not valid JSON"),
        (b'{"a":Infinity}', "not valid JSON"),
        (b'{"a":-Infinity}', "not valid JSON"),
        (b'{"a":1e400}', "too large"),
        (b'{"a":-1e400}', "too large"),
        (b'{"a":1' + b"0" * 400 + b"}", "integer"),
        (b'{"a":' + b"9" * 5000 + b"}", "not valid JSON"),
        (b'{"a":9007199254740992}', "integer"),
        (b'{"a":-9007199254740992}', "integer"),
        (b'{"a":1,"a":2}', "twice"),
        (b'{"b":[{"a":1,"\\u0061":2}]}', "twice"),
        (b'{"a":"\\ud800"}', "not valid JSON"),
        (b'{"\\udc00":1}', "not valid JSON"),
        (b'{"a":"\xed\xa0\x80"}', "not valid JSON"),
        (b'{"a":"\xff"}', "not valid JSON"),
        (b'{"a":"x\\u0000y"}', "NUL"),
        (b'{"a":[{"\\u0000":1}]}', "NUL"),
        (b'{"a":"\x00"}', "not valid JSON"),
        (nested(MAX_DEPTH + 1), "levels deep"),
        (nested(10_000), "not valid JSON"),
        (b"[" * 10_000 + b"]" * 10_000, "not valid JSON"),
        (b'{"a":' + b"[" * 100_000, "not valid JSON"),
    ],
)
def test_refused(raw: bytes, says: str) -> None:
    with pytest.raises(MalformedBody) as refused:
        parse_object(raw)
    assert says in refused.value.message


def test_backslash_before_u0000_is_not_a_nul() -> None:
    assert parse_object(b'{"a":"\\\\u0000"}') == {"a": "\\u0000"}
