"""Whether the schema fits the program, said at start."""

from __future__ import annotations

from structlog.testing import capture_logs

from service.database.migrate import Migration, read_migrations
from service.database.standing import Standing, standing
from tests.support.database import OpenDatabase
from tests.support.servers import execute

NAMES = [migration.name for migration in read_migrations()]


async def test_a_schema_that_fits_is_not_worth_a_word(
    open_database: OpenDatabase, database_url: str
) -> None:
    with capture_logs() as logs:
        assert await standing(await open_database(database_url)) == Standing((), ())
    assert logs == []


async def test_after_a_roll_back_the_newer_migrations_are_named(
    open_database: OpenDatabase, database_url: str
) -> None:
    database = await open_database(database_url)
    with capture_logs() as logs:
        found = await standing(database, migrations=read_migrations()[:-2])
    assert found == Standing((), tuple(NAMES[-2:]))
    assert [(line["event"], line["log_level"], line["unknown_migrations"]) for line in logs] == [
        ("database_is_newer", "warning", NAMES[-2:])
    ]


async def test_forgotten_migrations_are_named(
    open_database: OpenDatabase, database_url: str
) -> None:
    database = await open_database(database_url)
    later = Migration("0999_later", "")
    with capture_logs() as logs:
        found = await standing(database, migrations=[*read_migrations(), later])
    assert found == Standing(("0999_later",), ())
    assert [(line["event"], line["log_level"]) for line in logs] == [("database_is_older", "error")]


async def test_and_so_is_all_of_a_database_without_any_table(
    open_database: OpenDatabase, database_url: str
) -> None:
    execute(database_url, "DROP TABLE schema_migrations")
    assert (await standing(await open_database(database_url))).missing == tuple(NAMES)
