"""The limits published for the whole fleet, and who changed what: one small register in Redis."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from service.errors import ConfigurationError, StoreUnavailable
from service.store import keys
from service.store.client import Store

#: About 3,000 keys; every worker reads it at once when it changes.
MOST_BYTES = 1024 * 1024
CHANGES_KEPT = 1000
_NEW_VERSION = 0


@dataclass(frozen=True, slots=True)
class Published:
    """A document under its version (µs of server time); empty: every worker's own files hold."""

    version: int
    document: bytes
    author: str

    @property
    def at(self) -> datetime:
        """When it was published, by Redis's clock."""
        return datetime.fromtimestamp(self.version / 1_000_000, UTC)


@dataclass(frozen=True, slots=True)
class Change:
    """What an operator did: ``apply``, ``revert`` or ``reset``."""

    at: datetime
    author: str
    kind: str
    detail: str


class PublishedLimits:
    """The register; all but ``publish`` raise StoreUnavailable only."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._publish = store.script(__package__, "publish", keys=2)

    async def version(self) -> int:
        """The version that holds; 0 if there is none."""
        held: Any = await self._store.run(lambda: self._store.client.hget(keys.rules(), "version"))
        return _version(held)

    async def read(self) -> Published | None:
        """What holds; None if nothing was ever published here."""
        fields = ["version", "document", "author"]
        found: list[Any] = await self._store.run(
            lambda: self._store.client.hmget(keys.rules(), fields)
        )
        version, document, author = found
        if version is None:
            return None
        return Published(
            _version(version), document or b"", (author or b"").decode(errors="replace")
        )

    async def publish(self, document: str, *, author: str) -> int:
        """Let ``document`` hold for the whole fleet; an empty one gives way to the files.

        Returns its version; raises ConfigurationError if it is too large.
        """
        if len(document) > MOST_BYTES:
            raise ConfigurationError(f"limits: more than {MOST_BYTES} bytes cannot be published")
        return await self._write(Published(_NEW_VERSION, document.encode(), author))

    async def restore(self, lost: Published) -> None:
        """Write again what Redis has lost, unless something later holds."""
        await self._write(lost)

    async def note(self, kind: str, detail: str, *, author: str) -> None:
        """Add a change to those that are kept."""
        fields: dict[Any, Any] = {"author": author, "change": kind, "detail": detail}
        await self._store.run(
            lambda: self._store.client.xadd(
                keys.rule_changes(), fields, maxlen=CHANGES_KEPT, approximate=True
            )
        )

    async def changes(self, count: int) -> list[Change]:
        """The latest changes, newest first."""
        entries: Any = await self._store.run(
            lambda: self._store.client.xrevrange(keys.rule_changes(), count=count)
        )
        return [_change(entry, fields) for entry, fields in entries]

    async def _write(self, wanted: Published) -> int:
        version = await self._publish(
            [keys.rules(), keys.rule_changes()],
            [wanted.version, wanted.document, wanted.author, CHANGES_KEPT],
        )
        return int(version)


def _version(text: bytes | None) -> int:
    try:
        return int(text or 0)
    except ValueError as error:
        raise StoreUnavailable("Redis holds limits under a version that is none.") from error


def _change(entry: bytes, fields: dict[bytes, bytes]) -> Change:
    at_ms = int(entry.partition(b"-")[0])
    author, kind, detail = (
        fields.get(name, b"").decode(errors="replace") for name in (b"author", b"change", b"detail")
    )
    return Change(datetime.fromtimestamp(at_ms / 1000, UTC), author, kind, detail)
