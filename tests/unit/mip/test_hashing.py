"""MIP-004 vectors (public ones from other implementations' tests), and what has no hash."""

from __future__ import annotations

import hashlib
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import InvalidInput
from service.mip.hashing import (
    MAX_DEPTH,
    canonical,
    content_faults,
    input_hash,
    result_hash,
    schema_hashes,
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@pytest.mark.parametrize(
    ("identifier", "document", "digest"),
    [
        (
            "aabbccddeeff0011",
            '{"prompt":"Cardano payments"}',
            "25f3afe66b39b0582711c9faf53930c7b6a6feffd10294750ec77be47fd63080",
        ),
        (
            "aabbccddeeff00112233",
            '{"request_text":"Pay AWS invoice INV-M-0001 — 8.42 USDM","mandate_id":"M-001",'
            '"proposal":{"agent_signature":null,"action":{"id":"A-M-0001","amount":"8.42"}}}',
            "9bbb6f17187387071cd6a2a9fe2aa3f1520d1421c64c396c5585b61555470ca7",
        ),
        (
            "aabbccddeeff00112233",
            '{"taskId":"01a10ef7-d2cf-73d8-b084-47898de89fce","name":"Authority Check",'
            r'"description":"{\"mandate_id\":\"M-001\",'
            r'\"request_text\":\"Pay AWS invoice INV-M-0001\"}"}',
            "7d28637f03c8bde66ff66eecd9919f1cae02d27c96b27d0c678295bc04a167f9",
        ),
        (
            "aabbccddeeff0011",
            "{}",
            "59e08c108addc5e1667e34f85c90bb4ff98c410701bfb6088a4deb86b3273ca9",
        ),
        (
            "aabbccddeeff0011",
            '{"budget":1500.0}',
            "e79620028798ebcb6e0b10dd5087d06c98ce3113f5cd08b96a17c408b29c205c",
        ),
    ],
)
def test_input_hash_vectors(identifier: str, document: str, digest: str) -> None:
    assert input_hash(identifier, json.loads(document)) == digest


def test_missing_input_hashes_like_the_empty_object() -> None:
    assert input_hash("aabbccddeeff0011", None) == input_hash("aabbccddeeff0011", {})


def test_identifier_is_hashed_as_sent() -> None:
    assert input_hash("AABBCCDDEEFF0011", {}) != input_hash("aabbccddeeff0011", {})


@pytest.mark.parametrize(
    ("identifier", "literal", "escaped", "raw"),
    [
        (
            "aabbccddeeff0011",
            r'"Line 1\nLine 2"',
            "85ba9cdbfafd6984e7a57a04c2e0fe378f48b998e327aa851b4e5459b990fb19",
            "6fa3bfa69364318f78619b87652c725d705c90f18f8bdcb5d7041c17b73ea57a",
        ),
        (
            "01234567890123456789",
            r'"line\n\"next\"\\end"',
            "36767ae2635033ebfa81d977b51a72b9d9ea541c73c9c7e6f55302543ba97db3",
            "7274791448dbdd3200d56594716830eec96cc7e4929e90a1f5d005dbbd3c1dcd",
        ),
        (
            "aabbccddeeff00112233",
            r'"{\"decision\":\"ALLOW\",\"reason\":null}"',
            "3822c58f161178683ebaf95c3820e76f6a2017e7ae978e0b9d82880e50aa2f26",
            "77a755de31ce8bec9c592ac27b86f6637a762a93be955ea527a609a3efe2178d",
        ),
        (
            "aabbccddeeff0011",
            r'"Zoë 🚀 a/b \u2028 \u007f \u0001 \b\f\t"',
            "e6146114cf2c33780230475920cf424df7781d0c892ad4ab8810982bdcebd87a",
            None,
        ),
    ],
)
def test_result_hash_vectors(identifier: str, literal: str, escaped: str, raw: str | None) -> None:
    result = json.loads(literal)
    assert result_hash(identifier, result, "escaped") == escaped
    if raw is not None:
        assert result_hash(identifier, result, "raw") == raw


def test_both_result_forms_agree_on_plain_text() -> None:
    plain = "Grüße, no quotes"
    assert result_hash("aa", plain, "raw") == result_hash("aa", plain, "escaped")


def test_canonical_vector_of_a_marketplace() -> None:
    digest = hashlib.sha256(canonical({"b": 2, "a": 1})).hexdigest()
    assert digest == "43258cff783fe7036d8a43033f830adfc60ec037382473548ac742b888292777"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.0, "1"),
        (1e16, "10000000000000000"),
        (1e-7, "1e-7"),
        (1e-5, "0.00001"),
        (1e21, "1e+21"),
        (-0.0, "0"),
        (2**53 - 1, "9007199254740991"),
        ({"\ufb33": 1, "\U0001f600": 2}, '{"\U0001f600":2,"\ufb33":1}'),
    ],
)
def test_canonical_form_is_that_of_javascript(value: object, text: str) -> None:
    assert canonical(value).decode() == text


@pytest.mark.parametrize(
    ("value", "pointer"),
    [
        ({"n": 2**53}, "/input_data/n"),
        ({"n": -(2**53)}, "/input_data/n"),
        ({"n": 10**5000}, "/input_data/n"),
        ({"a/b": [0, math.nan]}, "/input_data/a~1b/1"),
        ({"m~n": math.inf}, "/input_data/m~0n"),
        ({"s": "\ud800"}, "/input_data/s"),
        ({"\udfff": 1}, "/input_data"),
        ({1: 1}, "/input_data"),
        ({"s": b"bytes"}, "/input_data/s"),
    ],
)
def test_value_without_canonical_form_is_refused_at_its_place(value: object, pointer: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        input_hash("aabbccddeeff0011", value)
    assert [fault.pointer for fault in caught.value.errors] == [pointer]


def test_deep_nesting_is_refused_without_recursion() -> None:
    value: object = 1
    for _ in range(10_000):
        value = [value]
    with pytest.raises(InvalidInput, match="not valid"):
        canonical(value)


def test_deepest_allowed_value_is_canonical() -> None:
    value: object = 1
    for _ in range(MAX_DEPTH):
        value = [value]
    assert canonical(value) == b"[" * MAX_DEPTH + b"1" + b"]" * MAX_DEPTH


def test_lone_surrogate_in_identifier_or_result_is_refused() -> None:
    with pytest.raises(InvalidInput):
        input_hash("\ud800", {})
    with pytest.raises(InvalidInput):
        result_hash("aa", "\ud800", "escaped")


def test_nul_is_canonical_but_not_storable() -> None:
    assert canonical({"a": "\x00"}) == b'{"a":"\\u0000"}'
    faults = list(content_faults({"a": "\x00", "b\x00": 1}, nul=False))
    assert [fault.pointer for fault in faults] == ["", "/a"]


def test_schema_has_a_hash_of_the_whole_and_of_the_array() -> None:
    fields = [{"id": "a", "type": "text", "name": "A"}]
    whole = hashlib.sha256(canonical({"input_data": fields})).hexdigest()
    inner = hashlib.sha256(canonical(fields)).hexdigest()
    assert schema_hashes({"input_data": fields}) == {whole, inner}
    groups = [{"id": "g", "title": "G", "input_data": fields}]
    inner_of_groups = hashlib.sha256(canonical(groups)).hexdigest()
    assert inner_of_groups in schema_hashes({"input_groups": groups})


@given(JSON)
def test_canonical_of_any_json_is_readable_or_invalid_input(value: object) -> None:
    if any(content_faults(value)):
        with pytest.raises(InvalidInput):
            canonical(value)
        return
    text = canonical(value)
    # As JavaScript reads it: every number is a double.
    read = json.loads(text, parse_int=float)
    assert read == value
    assert canonical(read) == text
