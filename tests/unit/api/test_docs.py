"""docs/api.md tells of every address and every problem there is, and of none there is not."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from service import errors
from service.api import problems
from service.api.routes import TABLE

TEXT = (Path(__file__).parents[3] / "docs" / "api.md").read_text(encoding="utf-8")


def kinds(kind: type[errors.TollgateError]) -> Iterator[type[errors.TollgateError]]:
    yield kind
    for child in kind.__subclasses__():
        if child.__module__ != errors.__name__:  # a package's own, which never leaves it
            continue
        yield from kinds(child)


def test_every_address_is_documented_with_its_policy() -> None:
    rows = [line for line in TEXT.splitlines() if re.match(r"\| `(GET|POST) /", line)]
    for row in TABLE:
        (line,) = [line for line in rows if f"`{row.method} {row.path}`" in line]
        assert (f"`{row.policy}`" if row.policy else "–") in line


def test_every_problem_is_documented_with_its_status() -> None:
    expected = {kind.code: int(problems.status_of(kind)) for kind in kinds(errors.TollgateError)}
    # A fault of ours is never told by name.
    expected = {code: status for code, status in expected.items() if status != 500}
    expected |= {code: status for status, (code, _) in problems.HTTP_PROBLEMS.items()}
    expected |= {errors.TollgateError.code: 500, "quota-exceeded": 429}
    listed = re.findall(r"^\| `([a-z-]+)` \| (\d{3}) \|", TEXT, re.MULTILINE)
    assert {code: int(status) for code, status in listed} == expected
