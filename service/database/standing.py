"""Does the schema fit this version of the program? Told at start, before traffic tells it.

After a roll back the schema is newer, which every version must live with that was deployed before:
migrations only add (docs/operations.md). Where it is older, somebody forgot ``tollgate migrate``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from service.database.classes import Statement, StatementClass
from service.database.database import Database
from service.database.migrate import Migration, read_migrations

log = structlog.get_logger()

_IS_THERE = Statement(
    "SELECT to_regclass('schema_migrations') IS NOT NULL AS there",
    name="schema_is_there",
    kind=StatementClass.READ,
)
_APPLIED = Statement(
    "SELECT name FROM schema_migrations ORDER BY name",
    name="schema_applied",
    kind=StatementClass.READ,
)


@dataclass(frozen=True, slots=True)
class Standing:
    """Names of migrations: of ours that are not applied, and applied ones that are not ours."""

    missing: tuple[str, ...]
    unknown: tuple[str, ...]


async def standing(
    database: Database, *, migrations: Sequence[Migration] | None = None
) -> Standing:
    """Compare, and say what does not fit. Raises as ``Database.fetch`` does."""
    wanted = {each.name for each in (read_migrations() if migrations is None else migrations)}
    [row] = await database.fetch(_IS_THERE)
    applied = {row["name"] for row in await database.fetch(_APPLIED)} if row["there"] else set()
    found = Standing(tuple(sorted(wanted - applied)), tuple(sorted(applied - wanted)))
    if found.unknown:
        log.warning("database_is_newer", unknown_migrations=list(found.unknown))
    if found.missing:
        log.error("database_is_older", missing_migrations=list(found.missing))
    return found
