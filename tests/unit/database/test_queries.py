"""Named statements: what a file means, and what it may not say."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from service.database import Queries, load_queries
from service.database.classes import StatementClass
from service.database.queries import parse_queries
from service.errors import ConfigurationError

FILE = """-- Jobs in PostgreSQL.
-- name is explained here, and is no header.

-- name: claim_jobs (batch)
-- Takes jobs nobody works on.
UPDATE jobs
   SET owner = %(owner)s  -- name: not a header either
 WHERE owner IS NULL;

--  name:  count_jobs  (quick)
-- How many there are.
SELECT count(*) FROM jobs;
"""


def test_statements_come_without_header_and_semicolon() -> None:
    assert parse_queries(FILE) == {
        "claim_jobs": "UPDATE jobs\n   SET owner = %(owner)s  -- name: not a header either\n"
        " WHERE owner IS NULL",
        "count_jobs": "SELECT count(*) FROM jobs",
    }


def test_statements_know_their_name_and_class() -> None:
    claim, count = parse_queries(FILE).values()
    assert (claim.name, claim.kind) == ("claim_jobs", StatementClass.BATCH)
    assert (count.name, count.kind) == ("count_jobs", StatementClass.QUICK)


def test_statements_are_attributes_and_iteration_gives_their_names() -> None:
    queries = Queries(parse_queries(FILE), origin="jobs/queries.sql")
    assert queries.count_jobs == "SELECT count(*) FROM jobs"
    assert list(queries) == ["claim_jobs", "count_jobs"]
    assert repr(queries) == "<Queries jobs/queries.sql: claim_jobs, count_jobs>"
    with pytest.raises(AttributeError, match=r"jobs/queries.sql has no statement named claim"):
        _ = queries.claim


def test_a_package_brings_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "a_package_with_queries"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "queries.sql").write_text(FILE, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    assert load_queries(package.name).count_jobs == "SELECT count(*) FROM jobs"
    del sys.modules[package.name]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("-- name: a (quick)\nSELECT 1", "a does not say what it is for"),
        ("-- name: a (quick)\n-- Why.\n", "a has no statement"),
        (
            "-- name: a (quick)\n-- Why.\nSELECT 1;\n-- name: a (long)\n-- Why.\nSELECT 2",
            "two statements named a",
        ),
        ("-- name: a\n-- Why.\nSELECT 1", "a must name its class, one of quick, write, read"),
        ("-- name: a (slow)\n-- Why.\nSELECT 1", "a must name its class"),
        ("-- name: a-b\n-- Why.\nSELECT 1", "'a-b' cannot be the name"),
        ("-- name:\n-- Why.\nSELECT 1", "'' cannot be the name"),
    ],
)
def test_a_faulty_file_is_refused_with_its_name(text: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"jobs/queries\.sql: .*{message}"):
        parse_queries(text, origin="jobs/queries.sql")
