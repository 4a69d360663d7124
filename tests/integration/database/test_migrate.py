"""Migrations on a real, empty database: once, in order, whole or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from service.database.migrate import Migration, migrate, read_migrations
from service.errors import ConstraintViolated, DatabaseUnavailable, MigrationFailed, StatementFailed
from service.settings import DatabaseSettings
from tests.support.postgres import ask
from tests.support.servers import Servers, execute

SETTINGS = DatabaseSettings()
FIRST = Migration("0001_first", "CREATE TABLE first (a int); INSERT INTO first VALUES (1);")
SECOND = Migration("0002_second", "-- 100% sure\nCREATE TABLE second (b int);")
SLOW = Migration("0003_slow", "SELECT pg_sleep(0.1); CREATE TABLE third (c int);")
ONCE = ["0001_first", "0002_second", "0003_slow"]


@pytest.fixture
def empty_url(servers: Servers) -> Iterator[str]:
    """A database without any table."""
    admin = servers.postgres.url_of("postgres")
    execute(admin, "CREATE DATABASE unmigrated")
    yield servers.postgres.url_of("unmigrated")
    execute(admin, "DROP DATABASE unmigrated WITH (FORCE)")


def applied(url: str) -> list[str]:
    return [name for (name,) in ask(url, "SELECT name FROM schema_migrations ORDER BY name")]


def tables(url: str) -> set[str]:
    return {name for (name,) in ask(url, "SELECT tablename FROM pg_tables"
                                         " WHERE schemaname = 'public'")}  # fmt: skip


async def test_what_is_missing_is_applied_and_nothing_twice(empty_url: str) -> None:
    assert await migrate(empty_url, SETTINGS, migrations=[FIRST]) == ["0001_first"]
    assert await migrate(empty_url, SETTINGS, migrations=[FIRST, SECOND]) == ["0002_second"]
    assert await migrate(empty_url, SETTINGS, migrations=[FIRST, SECOND]) == []
    assert applied(empty_url) == ["0001_first", "0002_second"]
    assert ask(empty_url, "SELECT count(*) FROM first") == [(1,)]


async def test_the_package_brings_its_own(empty_url: str) -> None:
    names = [migration.name for migration in read_migrations()]
    assert await migrate(empty_url, SETTINGS) == names
    assert {"flows", "jobs", "schema_migrations"} <= tables(empty_url)


async def start_together(url: str) -> list[str]:
    """What was applied, by whichever of them."""
    by_each = await asyncio.gather(
        *(migrate(url, SETTINGS, migrations=[FIRST, SECOND, SLOW]) for _ in range(5))
    )
    return [name for names in by_each for name in names]


async def test_replicas_that_start_together_apply_each_migration_once(empty_url: str) -> None:
    assert sorted(await start_together(empty_url)) == ONCE
    assert ask(empty_url, "SELECT count(*) FROM first") == [(1,)]


async def test_without_the_lock_they_collide(
    empty_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That the test above can fail."""
    monkeypatch.setattr("service.database.migrate._lock", lambda _: asyncio.sleep(0))
    with pytest.raises((MigrationFailed, ConstraintViolated, StatementFailed)):
        await start_together(empty_url)


async def test_an_edited_migration_is_refused_and_nothing_applied(empty_url: str) -> None:
    await migrate(empty_url, SETTINGS, migrations=[FIRST])
    edited = Migration(FIRST.name, FIRST.script + "-- a small improvement")
    with pytest.raises(MigrationFailed, match="0001_first was edited"):
        await migrate(empty_url, SETTINGS, migrations=[edited, SECOND])
    assert applied(empty_url) == ["0001_first"]


async def test_a_failing_migration_leaves_the_earlier_ones_and_nothing_of_itself(
    empty_url: str,
) -> None:
    failing = Migration("0002_failing", "CREATE TABLE half (a int);\n\nINSERT INTO haf VALUES (1);")
    with pytest.raises(MigrationFailed, match=r'0002_failing.*line 3: relation "haf"'):
        await migrate(empty_url, SETTINGS, migrations=[FIRST, failing])
    assert applied(empty_url) == ["0001_first"]
    assert "half" not in tables(empty_url)


async def test_a_broken_rule_fails_a_migration_too(empty_url: str) -> None:
    breaking = Migration("0002_breaking", "CREATE UNIQUE INDEX ON first ((1));")
    twice = Migration("0001_twice", "CREATE TABLE first AS SELECT generate_series(1, 2);")
    with pytest.raises(MigrationFailed, match=r"0002_breaking.*could not create unique index"):
        await migrate(empty_url, SETTINGS, migrations=[twice, breaking])


async def test_an_older_program_leaves_a_newer_database_alone(empty_url: str) -> None:
    await migrate(empty_url, SETTINGS, migrations=[FIRST, SECOND])
    assert await migrate(empty_url, SETTINGS, migrations=[FIRST]) == []


async def test_the_lock_is_given_up_with_the_connection(empty_url: str) -> None:
    with pytest.raises(MigrationFailed):
        await migrate(empty_url, SETTINGS, migrations=[Migration("0001_wrong", "WRONG")])
    assert await migrate(empty_url, SETTINGS, migrations=[FIRST]) == ["0001_first"]


async def test_a_missing_server_is_unavailable_and_its_password_not_shown() -> None:
    with pytest.raises(DatabaseUnavailable) as raised:
        await migrate("postgresql://me:secret@127.0.0.1:1/x", SETTINGS)
    assert "me@127.0.0.1:1/x" in str(raised.value)
    assert "secret" not in str(raised.value)
