"""Every named statement of the package means something to PostgreSQL, on the migrated schema."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import service
from service.database import Database, load_queries

PACKAGE = Path(service.__file__).parent
OWNERS = [
    ".".join(("service", *file.parent.relative_to(PACKAGE).parts))
    for file in sorted(PACKAGE.rglob("queries.sql"))
]
STATEMENTS = [(owner, name) for owner in OWNERS for name in load_queries(owner)]


@pytest.mark.parametrize(("owner", "name"), STATEMENTS)
async def test_statement_is_accepted(database: Database, owner: str, name: str) -> None:
    """EXPLAIN parses, resolves and plans it, and does not run it."""
    statement = getattr(load_queries(owner), name)
    params = dict.fromkeys(re.findall(r"%\((\w+)\)s", statement))
    await database.fetch(f"EXPLAIN {statement}", params)


def test_the_statements_are_found() -> None:
    assert {"service.flows", "service.jobs"} <= set(OWNERS)
