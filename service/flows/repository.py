"""Flows in PostgreSQL: found by any of their names, imported in one transaction."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from service.database import Database, StatementClass, Transaction, load_queries
from service.errors import ConfigurationError
from service.flows.cached import Change
from service.flows.definition import FlowDefinition
from service.flows.importing import collisions
from service.flows.models import ImportReport

_QUERIES = load_queries("service.flows")
#: Any number that no other advisory lock of this service uses ("flow" in ASCII).
_IMPORT_LOCK = 0x666C6F77
#: Flows written by one statement: few statements, each far from its time limit.
_AT_ONCE = 250


@dataclass(frozen=True, slots=True)
class StoredFlow:
    uid: UUID
    document: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class IndexRow:
    """All flows on sale: first slug and digest of each piece, and the marks of all names."""

    pieces: Sequence[tuple[str, str]]
    marks: bytes


@dataclass(frozen=True, slots=True)
class PieceRow:
    """A flow in a piece of the list; ``version`` is another one after any change of the row."""

    slug: str
    uid: UUID
    version: str
    document: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Saved:
    """What an import did: a report for people, and the changes to tell the caches of."""

    report: ImportReport
    changes: tuple[Change, ...]


class FlowRepository:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def uid_of(self, alias: str) -> UUID | None:
        row = await self._database.fetch_one(_QUERIES.find_uid, {"alias": alias})
        return row["uid"] if row else None

    async def find(self, uid: UUID) -> StoredFlow | None:
        row = await self._database.fetch_one(_QUERIES.find_flow, {"uid": str(uid)})
        return StoredFlow(row["uid"], row["definition"]) if row else None

    async def index(self, piece_flows: int, mark_bytes: int) -> IndexRow:
        """How the list is cut into pieces of so many flows, and the marks, sorted, end to end."""
        row = await self._database.fetch_one(
            _QUERIES.read_index, {"piece_flows": piece_flows, "mark_bytes": mark_bytes}
        )
        if row is None:  # an aggregate always has a row
            return IndexRow((), b"")
        return IndexRow([(first, digest) for first, digest in row["pieces"]], bytes(row["marks"]))

    async def piece(self, first: str, following: str | None) -> list[PieceRow]:
        """The flows on sale from ``first`` to before ``following``, by slug."""
        rows = await self._database.fetch(
            _QUERIES.read_piece, {"first": first, "following": following}
        )
        return [
            PieceRow(row["slug"], row["uid"], row["version"], row["definition"]) for row in rows
        ]

    async def save(self, definitions: Sequence[FlowDefinition]) -> Saved:
        """Store what is new or changed, all or nothing; raises ConfigurationError on a clash."""
        given = {definition.slug: definition for definition in definitions}
        if faults := list(collisions(list(definitions))):
            raise ConfigurationError("\n".join(faults))
        async with self._database.transaction(StatementClass.LONG) as transaction:
            await transaction.fetch(_QUERIES.lock_imports, {"lock": _IMPORT_LOCK})
            rows = await transaction.fetch(_QUERIES.flows_by_slug, {"slugs": list(given)})
            stored = {row["slug"]: row for row in rows}
            unchanged = {
                slug for slug, row in stored.items() if row["digest"] == given[slug].digest()
            }
            uids = {
                slug: _uid(definition, stored.get(slug))
                for slug, definition in given.items()
                if slug not in unchanged or definition.uid
            }
            changed = {slug: uid for slug, uid in uids.items() if slug not in unchanged}
            await _free_aliases(transaction, changed)
            names = {slug: {*given[slug].aliases, str(uid)} for slug, uid in changed.items()}
            await _refuse_clashes(transaction, names, changed)
            for part in _parts(list(changed.items())):
                rows_json = json.dumps([_row(given[slug], uid) for slug, uid in part])
                await transaction.execute(_QUERIES.save_flows, {"rows": rows_json})
                pairs = [(str(uid), name) for slug, uid in part for name in sorted(names[slug])]
                await transaction.execute(
                    _QUERIES.save_aliases,
                    {"uids": [uid for uid, _ in pairs], "aliases": [name for _, name in pairs]},
                )
            recorded = await transaction.fetch(_QUERIES.own_changes)
        report = ImportReport(
            created=tuple(sorted(changed.keys() - stored.keys())),
            updated=tuple(sorted(changed.keys() & stored.keys())),
            unchanged=tuple(sorted(unchanged)),
        )
        return Saved(report, tuple(map(Change.of, recorded)))


def _parts(changed: Sequence[tuple[str, UUID]]) -> Iterator[Sequence[tuple[str, UUID]]]:
    for first in range(0, len(changed), _AT_ONCE):
        yield changed[first : first + _AT_ONCE]


def _uid(definition: FlowDefinition, row: Mapping[str, Any] | None) -> UUID:
    """The stored uid for ever: jobs, and whoever wrote it down, refer to it."""
    if row is None:
        return definition.first_uid()
    uid: UUID = row["uid"]
    if definition.uid not in (None, uid):
        raise ConfigurationError(
            f"{definition.slug}: is stored with the uid {uid}, which cannot be changed"
        )
    return uid


async def _free_aliases(transaction: Transaction, changed: Mapping[str, UUID]) -> None:
    """Before any is taken: one import may pass a name from one flow to another."""
    uids = [str(uid) for uid in changed.values()]
    await transaction.execute(_QUERIES.drop_aliases, {"uids": uids})


async def _refuse_clashes(
    transaction: Transaction, names: Mapping[str, set[str]], changed: Mapping[str, UUID]
) -> None:
    wanted = {name: slug for slug, all_names in names.items() for name in all_names}
    taken = await transaction.fetch(_QUERIES.alias_owners, {"aliases": sorted(wanted)})
    faults = [
        f"{wanted[row['alias']]}: {row['alias']!r} already stands for the flow {row['slug']}"
        for row in taken
    ]
    slugs = {uid: slug for slug, uid in changed.items()}
    owners = await transaction.fetch(
        _QUERIES.uid_owners, {"uids": [str(uid) for uid in changed.values()]}
    )
    faults += [
        f"{slugs[row['uid']]}: its uid {row['uid']} is that of the flow {row['slug']}"
        for row in owners
        if row["slug"] != slugs[row["uid"]]
    ]
    if faults:
        raise ConfigurationError("\n".join(sorted(faults)))


def _row(definition: FlowDefinition, uid: UUID) -> dict[str, Any]:
    return {
        "uid": str(uid),
        "slug": definition.slug,
        "name": definition.name,
        "definition": definition.document(),
        "digest": definition.digest(),
        "enabled": definition.enabled,
    }
