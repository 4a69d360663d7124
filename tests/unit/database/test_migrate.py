"""Which migrations are to be applied, decided without a database."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from service.database.migrate import Migration, plan, read_migrations
from service.errors import MigrationFailed

ONE, TWO, THREE = (Migration(f"000{n}_step", f"SELECT {n}") for n in (1, 2, 3))


def digests(*migrations: Migration) -> dict[str, str]:
    return {migration.name: migration.digest for migration in migrations}


@pytest.mark.parametrize(
    ("applied", "missing"),
    [((), (ONE, TWO, THREE)), ((ONE,), (TWO, THREE)), ((ONE, TWO, THREE), ())],
)
def test_the_rest_is_missing(
    applied: tuple[Migration, ...], missing: tuple[Migration, ...]
) -> None:
    assert plan([ONE, TWO, THREE], digests(*applied)) == list(missing)


def test_an_edited_migration_is_refused() -> None:
    with pytest.raises(MigrationFailed, match="0001_step was edited"):
        plan([ONE, TWO], {ONE.name: "another digest"})


def test_a_migration_that_comes_too_late_is_refused() -> None:
    with pytest.raises(MigrationFailed, match="0002_step is older than 0003_step"):
        plan([ONE, TWO, THREE], digests(ONE, THREE))


def test_a_newer_database_needs_nothing() -> None:
    assert plan([ONE], digests(ONE, TWO)) == []


def test_files_are_read_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for name in ("0002_b.sql", "0001_a.sql", "README.md"):
        (tmp_path / name).write_text(f"-- {name}", encoding="utf-8")
    assert read_migrations(tmp_path) == (
        Migration("0001_a", "-- 0001_a.sql"),
        Migration("0002_b", "-- 0002_b.sql"),
    )


@pytest.mark.parametrize("name", ["0003_c.sql", "2_b.sql", "0001_b.sql", "0002-b.sql", "b.sql"])
def test_a_name_out_of_order_is_refused(tmp_path: Path, name: str) -> None:
    for file in ("0001_a.sql", name):
        (tmp_path / file).write_text("SELECT 1", encoding="utf-8")
    with pytest.raises(MigrationFailed, match="is not the name of migration"):
        read_migrations(tmp_path)


def test_the_packages_own_are_in_order() -> None:
    assert read_migrations()[0].name == "0001_initial"


#: What a version that was deployed before could not live with.
TAKES_AWAY = re.compile(
    r"(?im)^\s*(DROP (TABLE|COLUMN|FUNCTION|TYPE|SCHEMA)|RENAME|ALTER COLUMN|SET NOT NULL|TRUNCATE)"
    r"|\b(DROP COLUMN|RENAME (TO|COLUMN)|ALTER COLUMN|SET NOT NULL)\b"
    r"|ADD COLUMN (?:(?!DEFAULT)[^,;])*NOT NULL(?![^,;]*DEFAULT)"
)


@pytest.mark.parametrize("migration", read_migrations()[1:], ids=lambda each: each.name)
def test_migrations_only_add_so_that_the_version_before_goes_on(migration: Migration) -> None:
    assert TAKES_AWAY.findall(migration.script) == []


@pytest.mark.parametrize(
    "statement",
    [
        "DROP TABLE flows;",
        "ALTER TABLE jobs DROP COLUMN result;",
        "ALTER TABLE jobs\n    RENAME COLUMN result TO outcome;",
        "ALTER TABLE jobs ALTER COLUMN result SET NOT NULL;",
        "ALTER TABLE jobs ADD COLUMN a int DEFAULT 1, ADD COLUMN b text NOT NULL;",
    ],
)
def test_what_takes_away_is_noticed(statement: str) -> None:
    assert TAKES_AWAY.search(statement)
