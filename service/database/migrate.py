"""Bring the schema up to date: each ``migrations/NNNN_name.sql`` once, in order, in a transaction.

Replicas that start at the same time are safe: one at a time holds an advisory lock, and the others
find the work done. A migration, once applied somewhere, is never edited: its digest is kept and
compared. A database that is ahead of this program (a newer replica has been here) is left alone.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from typing import TYPE_CHECKING

import psycopg2
import structlog

from service.database.connection import Connection, connect
from service.database.dsn import Dsn
from service.database.statements import Limit, Params, Result, run
from service.errors import DatabaseUnavailable, MigrationFailed, QueryTimeout, TollgateError

if TYPE_CHECKING:
    from service.settings import DatabaseSettings

# Any number, as long as it stays the same and is nobody else's: "tollgate" as eight bytes.
_LOCK = int.from_bytes(b"tollgate")
# Another replica's migrations are waited for this long; a migration may take as long.
_LIMIT_S = 600.0
_FILE_NAME = re.compile(r"([0-9]{4})_[a-z0-9_]+\.sql")
_TABLE = """
CREATE TABLE IF NOT EXISTS schema_migrations (
    name        text PRIMARY KEY,
    applied_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    digest      text NOT NULL
)
"""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Migration:
    """One file: its name without ``.sql``, and its statements."""

    name: str
    script: str

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.script.encode()).hexdigest()


async def migrate(
    url: str, settings: DatabaseSettings, *, migrations: Sequence[Migration] | None = None
) -> list[str]:
    """Apply what is missing; the names of what was applied.

    Raises MigrationFailed (nothing of the failed migration stays), DatabaseUnavailable and
    ConfigurationError. ``CREATE INDEX CONCURRENTLY`` and its like do not run in a transaction, so
    they cannot be migrations.
    """
    wanted = read_migrations() if migrations is None else migrations
    dsn = Dsn.parse(url, application_name="tollgate-migrate", pooler=settings.pooler)
    applied: list[str] = []
    async with _connection(dsn, settings.connect_timeout) as connection:
        while migration := await _apply_next(connection, wanted):
            log.info("migration_applied", name=migration.name)
            applied.append(migration.name)
    return applied


def plan(wanted: Sequence[Migration], applied: Mapping[str, str]) -> list[Migration]:
    """What is to be applied; raises MigrationFailed when that is not simply the rest."""
    for migration in wanted:
        if applied.get(migration.name, migration.digest) != migration.digest:
            raise MigrationFailed(
                f"Migration {migration.name} was edited after it had been applied to this database;"
                " restore the file, and put the change into a new one."
            )
    missing = [migration for migration in wanted if migration.name not in applied]
    latest = max(applied, default="")
    if missing and missing[0].name < latest:
        raise MigrationFailed(
            f"Migration {missing[0].name} is older than {latest}, which is already applied to this"
            " database; give it a later number."
        )
    unknown = sorted(applied.keys() - {migration.name for migration in wanted})
    if unknown and not missing:
        log.warning("database_is_newer", unknown_migrations=unknown)
    return missing


def read_migrations(directory: Traversable | None = None) -> tuple[Migration, ...]:
    """The package's migrations in their order; raises MigrationFailed for names out of order."""
    folder = directory or resources.files("service.database").joinpath("migrations")
    files = sorted(
        (file for file in folder.iterdir() if file.name.endswith(".sql")), key=lambda f: f.name
    )
    for number, file in enumerate(files, start=1):
        match = _FILE_NAME.fullmatch(file.name)
        if not match or int(match[1]) != number:
            raise MigrationFailed(
                f"{file.name} is not the name of migration {number}, such as {number:04}_add_x.sql"
            )
    return tuple(
        Migration(file.name.removesuffix(".sql"), file.read_text(encoding="utf-8"))
        for file in files
    )


async def _apply_next(connection: Connection, wanted: Sequence[Migration]) -> Migration | None:
    """The first that is missing, applied; None when none is.

    Looking and applying are one transaction, which alone holds the lock: a pooler that gives each
    transaction another connection of the server's takes nothing away from that.
    """
    await _send(connection, "BEGIN")
    await _lock(connection)
    await _send(connection, _TABLE)
    found = await _send(connection, "SELECT name, digest FROM schema_migrations")
    missing = plan(wanted, {row["name"]: row["digest"] for row in found.rows})
    if missing:
        await _apply(connection, missing[0])
    await _send(connection, "COMMIT")
    return missing[0] if missing else None


async def _apply(connection: Connection, migration: Migration) -> None:
    try:
        await _send(connection, migration.script)
        await _send(
            connection,
            "INSERT INTO schema_migrations (name, digest) VALUES (%(name)s, %(digest)s)",
            {"name": migration.name, "digest": migration.digest},
        )
    except DatabaseUnavailable:
        raise
    except TollgateError as error:
        # The caller closes the connection, and the server rolls back.
        raise MigrationFailed(
            f"Migration {migration.name} failed, and nothing of it was applied:"
            f" {_place(error.__cause__, migration.script)}"
        ) from error


def _place(error: BaseException | None, script: str) -> str:
    """PostgreSQL's message, with the line it complains about."""
    if not isinstance(error, psycopg2.Error):
        return str(error)
    message = error.diag.message_primary or str(error).strip()
    if error.diag.statement_position is None:
        return message
    line = script.count("\n", 0, int(error.diag.statement_position) - 1) + 1
    return f"line {line}: {message}"


@contextlib.asynccontextmanager
async def _connection(dsn: Dsn, timeout_s: float) -> AsyncIterator[Connection]:
    try:
        connection = await connect(dsn, timeout_s=timeout_s)
    except (TimeoutError, OSError, psycopg2.Error) as error:
        raise DatabaseUnavailable(f"PostgreSQL cannot be reached at {dsn}.") from error
    try:
        yield connection
    finally:
        connection.close()


async def _lock(connection: Connection) -> None:
    """Held until the transaction ends, one way or the other; so is the time limit it sets."""
    limit = Limit(_LIMIT_S)
    try:
        await run(connection, f"SELECT pg_advisory_xact_lock({_LOCK})", None, limit)
    except QueryTimeout as error:
        raise MigrationFailed(
            f"Somebody else has been migrating this database for {_LIMIT_S:.0f} s."
        ) from error


async def _send(connection: Connection, script: str, params: Params | None = None) -> Result:
    # As it is: PostgreSQL tells the place of an error by counting from the beginning.
    return await run(connection, script, params, Limit(_LIMIT_S), announce=False)
