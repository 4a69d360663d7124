"""The page's own rules and hashes are the service's: the same cases, put to both."""

from __future__ import annotations

import itertools
import json
import math
import random
import struct
from typing import Any

import pytest
from playwright.sync_api import Page

from service.mip.hashing import canonical, input_hash, result_hash
from service.mip.schema import Field
from service.mip.validation import Refused, check
from tests.browser.windows import Window

MODULE = """async ([name, what, cases]) => {
  const { href } = document.querySelector(`link[href$="/${name}"]`);
  const called = (await import(href))[what];
  return Promise.all(cases.map((args) => called(...args)));
}"""


def rule(kind: str, value: str) -> dict[str, str]:
    return {"validation": kind, "value": value}


def field(kind: str, *rules: dict[str, str], **data: Any) -> dict[str, Any]:
    made: dict[str, Any] = {"id": "f", "type": kind, "name": "F", "validations": list(rules)}
    return made | ({"data": data} if data else {})


OPTIONAL = rule("optional", "true")
TEXTS = [
    "", " ", "\t\n", "\u00a0", "a", "abc", "abcdef", "🐝🐝🐝", "Grüße", " 12 ", "12", "-12", "+7",
    "1.5", "ada@example.com", "ada@example", "ada@", "@example.com", "a.b+c@x-y.example",
    "a@-x.example", "ada@example.com\n", "Ada <ada@example.com>", "https://example.com",
    "http://a/b?c#d", "https://", "https:///a", "ftp://example.com", "HTTPS://EXAMPLE.COM",
    "https://a b", "https://ä.de", "https://a\\b", "javascript:alert(1)", "https://a.b:99999",
    "https://[::1]/", "https://[::1", "+49 30 123456", "030/123", "tel", "++49", "(030) 1-2.3",
    "null\0byte", "x" * 254, "x" * 100_001, "#1e90ff", "#1E90FF", "1e90ff", "#12345", "#1234567",
]  # fmt: skip
MOMENTS = [
    "2025-05-02", "2025-02-29", "2024-02-29", "2025-13-01", "2025-00-10", "2025-04-31", "25-04-01",
    "0000-01-01", "0001-01-01", "9999-12-31", "2025-05-02T09:30", "2025-05-02T09:30:59",
    "2025-05-02T24:00", "2025-05-02T09:60", "2025-05-02 09:30", "2025-05-02T09:30Z", "09:30",
    "23:59:59", "24:00", "9:30", "09:30:60", "2025-05", "2025-12", "2025-13", "2025-1", "2025-W18",
    "2025-W53", "2026-W53", "2020-W53", "2024-W53", "2015-W53", "2025-W00", "2025-W54", "0099-W01",
    "٢٠٢٥-05-02",
]  # fmt: skip
NUMBERS: list[Any] = [
    0, 1, -1, 2.5, 0.1, 0.3, 0.30000000000000004, 0.7, 9.5, 9.500000001, 1e-7, 123456.789, 1e21,
    "1", " 2 ", "1e3", "1e400", "0x10", "one", "", "1,5", ".5", "5.", "-", "9007199254740993",
    "9007199254740991", "1" * 65, True, None, [],
]  # fmt: skip
CHOICES: list[Any] = [
    None, [], "a", "b", "d", ["a"], ["a", "b"], ["a", "a"], ["a", "b", "c"], [0], [2], [3], [-1],
    0, 1, 3, ["a", "d"], [1, "b"],
]  # fmt: skip
FILES: list[Any] = [
    None, [], "https://example.com/a.png", ["https://example.com/a"], ["b"], "ftp://a/b",
    ["https://example.com/a", "b"], ["https://example.com/a", "https://b/", "https://c/"],
]  # fmt: skip

TEXT_KINDS = ("text", "string", "textarea", "password", "search", "tel", "email", "url")
MOMENT_KINDS = ("date", "datetime-local", "time", "month", "week")
MOMENT_BOUNDS = {
    "date": "2025-05-01",
    "datetime-local": "2025-05-02T09:30:30",
    "time": "09:30",
    "month": "2025-05",
    "week": "2025-W18",
}


def fields_and_values() -> list[tuple[dict[str, Any], Any]]:
    """Every type of field under every validation it has, with what may be typed into it."""
    lengths = (rule("min", "2"), rule("max", "5"))
    formats = (
        "email",
        "url",
        "nonempty",
        "integer",
        "tel-pattern",
        "tel_pattern",
        "EMAIL",
        "other",
    )
    under: list[tuple[list[dict[str, Any]], list[Any]]] = [
        (
            [field(kind, *rules) for kind in TEXT_KINDS for rules in ((), (OPTIONAL,), lengths)],
            TEXTS,
        ),
        ([field("text", rule("format", name)) for name in formats], TEXTS),
        (
            [field("text", rule("optional", "false")), field("text", rule("optional", "False"))],
            TEXTS,
        ),
        ([field("color"), field("color", OPTIONAL)], [*TEXTS, None]),
        (
            [
                field(kind, *rules)
                for kind in MOMENT_KINDS
                for bound in [MOMENT_BOUNDS[kind]]
                for rules in ((), (OPTIONAL,), (rule("min", bound),), (rule("max", bound),))
            ],
            [*MOMENTS, "", None],
        ),
        (
            [
                field("number"),
                field("number", OPTIONAL),
                field("number", rule("min", "0.3"), rule("max", "9.5"), rule("min", "1")),
                field("number", rule("format", "integer")),
                field("range", min=0.1, max=0.9, step=0.2),
                field("range", min=-3, step=0.7),
                field("range", rule("format", "integer"), rule("max", "2"), max=5, step=1),
            ],
            NUMBERS,
        ),
        (
            [
                field(kind, *rules, values=["a", "b", "c"])
                for kind in ("radio", "option", "multiselect", "checkbox")
                for rules in ((), (OPTIONAL,), (rule("min", "2"),), (rule("max", "1"),))
            ],
            CHOICES,
        ),
        ([field("boolean"), field("checkbox", OPTIONAL)], [True, False, None, "true", 1]),
        ([field("file", *r, outputFormat="url") for r in ((), (OPTIONAL,), lengths)], FILES),
        ([field("none"), field("none", rule("min", "9"))], [None, "", 5]),
    ]
    return [pair for fields, values in under for pair in itertools.product(fields, values)]


def told(page: Page, module: str, what: str, cases: list[list[Any]]) -> list[Any]:
    answers: list[Any] = page.evaluate(MODULE, [module, what, cases])
    return answers


def faults_of(given: dict[str, Any], raw: Any) -> list[str]:
    # As validate_input has it: NUL is found before any rule of the field is asked.
    if isinstance(raw, str) and "\0" in raw:
        return ["holds a NUL character; remove it"]
    try:
        check(Field.model_validate(given), raw)
    except Refused as refused:
        return list(refused.faults)
    return []


@pytest.fixture
def page(window: Window) -> Page:
    return window.open()


def test_page_finds_the_faults_that_the_service_finds(page: Page) -> None:
    cases = fields_and_values()
    found = told(page, "rules.js", "faultsOf", [list(case) for case in cases])
    expected = [faults_of(*case) for case in cases]
    wrong = [
        (case[0]["type"], case[0]["validations"], case[1], ours, theirs)
        for case, ours, theirs in zip(cases, found, expected, strict=True)
        if ours != theirs
    ]
    assert wrong == []
    assert sum(map(bool, expected)) > 500
    assert sum(not faults for faults in expected) > 300


def test_page_writes_canonical_json_as_the_service_does(page: Page) -> None:
    rng = random.Random(20)
    numbers: list[Any] = [0.0, -0.0, 1e16, 1e21, 1e-7, 5e-324, 1.7976931348623157e308, 2**53 - 1]
    while len(numbers) < 2000:
        [number] = struct.unpack("<d", rng.randbytes(8))
        if math.isfinite(number):
            numbers.append(number)
    texts = ["\u2028 \u007f \u0001 \b\f\t", "Zoë 🚀 a/b", '"\\', "\ud7ff\ue000"]
    keys = {"b": 1, "a": {"\ufb33": 1, "😀": 2, "ö": [None, True, {}]}, "1": [], "": texts}
    values = [*numbers, *texts, keys, [keys], {}]
    # As text: what carries numbers to the browser may not keep them.
    found = page.evaluate(
        """async (texts) => {
          const { href } = document.querySelector('link[href$="/hash.js"]');
          const { canonical } = await import(href);
          return texts.map((text) => canonical(JSON.parse(text)));
        }""",
        [json.dumps(value) for value in values],
    )
    assert found == [canonical(value).decode() for value in values]


def test_page_works_out_the_hashes_the_service_does(page: Page) -> None:
    inputs = [
        ["aabbccddeeff0011", {"prompt": "Zoë 🚀", "n": 1500.5}],
        [None, {}],
        ["AABB", {"b": [1]}],
    ]
    results = [
        ["aabbccddeeff0011", 'Line 1\nLine "2" \\ \u2028 \u007f \u0001', form]
        for form in ("escaped", "raw")
    ]
    assert told(page, "hash.js", "inputHash", inputs) == [input_hash(i or "", d) for i, d in inputs]
    expected = [result_hash(identifier, text, form) for identifier, text, form in results]
    assert told(page, "hash.js", "resultHash", results) == expected
