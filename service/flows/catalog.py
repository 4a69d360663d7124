"""The flows on sale, read through the cache: every name leads to one value, kept once.

In the cache an alias holds a uid and the uid holds the flow, so that a change replaces one value
however many names it has. Values are JSON with a tag: a worker of another version that finds them
reads the database instead of guessing. What is made of a value is kept beside it (``kept``).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple
from uuid import UUID

import structlog
from pydantic import ValidationError

from service.cache.cache import TieredCache
from service.cache.models import Cached
from service.database import Database
from service.errors import FlowUnavailable, UnknownFlow
from service.flows.cached import alias_key, uid_key
from service.flows.definition import FlowDefinition, alias, definition_of
from service.flows.kept import Found, Kept, Shelf
from service.flows.listing import FlowPage, Listing
from service.flows.models import Flow, ImportReport, Variant
from service.flows.repository import FlowRepository, PieceRow, StoredFlow

log = structlog.get_logger()

#: Changes when the cached form does.
_FORM = 1
#: A name has at most 200 characters, a variant at most 63; nothing longer is looked for.
_REFERENCE_CHARACTERS = 270
#: Flows kept parsed, so that a request does not read the whole definition again. With its answers
#: one takes about ten times the memory of the text it was read from.
_PARSED = 1024
_PARSED_BYTES = 4 * 1024 * 1024
#: Names known to be there are not looked for among all names first.
_KNOWN_NAMES = 50_000
#: References taken apart; what is asked for again is read off.
_NAMES = 2048


class Catalog:
    def __init__(
        self,
        database: Database,
        cache: TieredCache,
        *,
        on_unreadable: Callable[[], None] = lambda: None,
    ) -> None:
        """``on_unreadable`` is told of each stored flow that this version cannot read."""
        self._repository = FlowRepository(database)
        self._cache = cache
        self._on_unreadable = on_unreadable
        self._listing = Listing(self._repository, cache, self._listed)
        # None: unreadable, which is found out, said and counted once, too.
        self._parsed: Shelf[Flow | None] = Shelf(most_bytes=_PARSED_BYTES, most_entries=_PARSED)
        self._known: set[str] = set()

    async def get(self, reference: str) -> tuple[Flow, Variant]:
        """The flow and variant meant by ``slug``, ``slug+variant``, a uid or a name.

        Raises UnknownFlow; FlowUnavailable if it is stored in a form this version cannot read.
        """
        found, variant = self.at_hand(reference) or await self.find(reference)
        return found.kept.value, variant

    async def find(self, reference: str) -> tuple[Found[Flow], Variant]:
        """As ``get``, with what was made of the flow, and how old it is."""
        for name, key, variant in _names(reference):
            alias_read = await self._read_alias(name, key)
            if alias_read is not None and alias_read.value is not None:
                found = await self._read(alias_read.value.decode())
                if alias_read.degraded:
                    found = found._replace(degraded=True)
                return found, found.kept.value.variant(variant)
        raise UnknownFlow

    def at_hand(self, reference: str) -> tuple[Found[Flow], Variant] | None:
        """As ``find``, if this worker may give its own copy without asking anybody.

        Most reads are such: five coroutines less are 1.6 µs of 32 (Python alone, measured).
        """
        names = _names(reference)
        alias_read = self._cache.peek(names[0].key) if names else None
        if alias_read is None or alias_read.value is None or alias_read.degraded:
            return None
        read = self._cache.peek(_flow_key(alias_read.value))
        kept = self._parsed.get(read.value) if read else None
        if read is None or kept is None or kept.value is None:
            return None
        variant = kept.value.variant(names[0].variant)
        return Found(_sound(kept), read.loaded_at_s, read.degraded), variant

    async def by_uid(self, uid: UUID) -> Flow:
        """The flow, on sale or withdrawn; raises UnknownFlow, FlowUnavailable."""
        return (await self._read(str(uid))).kept.value

    async def page(self, *, after: str | None, limit: int) -> FlowPage:
        """Flows on sale by slug, beginning behind ``after``; unreadable ones are left out."""
        return (await self.find_page(after=after, limit=limit)).kept.value

    async def find_page(self, *, after: str | None, limit: int) -> Found[FlowPage]:
        """As ``page``, with what was made of the page, and how old it is."""
        return await self._listing.page(after=after, limit=limit)

    async def store(self, definitions: Sequence[FlowDefinition]) -> ImportReport:
        """Import: all or nothing, and nothing where nothing changed.

        Raises ConfigurationError where names clash with what is stored.
        """
        saved = await self._repository.save(definitions)
        for change in saved.changes:
            await self._cache.invalidate(change.keys, change=change.name)
        return saved.report

    async def _read_alias(self, name: str, key: str) -> Cached | None:
        """Which uid it stands for; None: nothing was asked, as no flow has this name."""
        known = name in self._known
        if not known and not await self._listing.may_have(name):
            return None

        async def load() -> bytes | None:
            uid = await self._repository.uid_of(name)
            return str(uid).encode() if uid else None

        read = await self._cache.get(key, load)
        if read.value is None:
            self._known.discard(name)
        elif not known:
            if len(self._known) >= _KNOWN_NAMES:
                self._known.clear()
            self._known.add(name)
        return read

    async def _read(self, uid: str) -> Found[Flow]:
        async def load() -> bytes | None:
            stored = await self._repository.find(UUID(uid))
            return _value(stored) if stored else None

        read = await self._cache.get(uid_key(uid), load)
        value = read.value
        if value is not None and not _readable(value):
            value = await load()
        if value is None:
            raise UnknownFlow
        kept = self._parsed.get(value) or self._parsed.put(value, self._parse(value), len(value))
        return Found(_sound(kept), read.loaded_at_s, read.degraded)

    def _parse(self, value: bytes) -> Flow | None:
        content = json.loads(value)
        return self._flow(StoredFlow(UUID(content["uid"]), content["definition"]))

    def _listed(self, row: PieceRow) -> Flow | None:
        return self._flow(StoredFlow(row.uid, row.document))

    def _flow(self, stored: StoredFlow) -> Flow | None:
        try:
            return definition_of(stored.document).flow(stored.uid)
        except ValidationError as error:
            # Stored by a version with other rules, or by hand; importing it says what is wrong.
            log.error("stored_flow_unreadable", uid=str(stored.uid), faults=error.error_count())
            self._on_unreadable()
            return None


class _Name(NamedTuple):
    """What a reference may mean; ``key`` is where the cache has the name."""

    name: str
    key: str
    variant: str | None


@lru_cache(maxsize=_NAMES)
def _names(reference: str) -> tuple[_Name, ...]:
    return tuple(
        _Name(alias(text), alias_key(alias(text)), variant)
        for text, variant in _readings(reference)
    )


@lru_cache(maxsize=_NAMES)
def _flow_key(uid: bytes) -> str:
    return uid_key(uid.decode())


def _readings(reference: str) -> Iterator[tuple[str, str | None]]:
    """What a reference may mean, most likely first.

    A ``+`` in an unescaped query arrives as a space, and a flow's name may hold either.
    """
    text = reference.strip()
    if not text or len(text) > _REFERENCE_CHARACTERS or not text.isprintable():
        return
    if "+" in text:
        base, _, variant = text.rpartition("+")
        yield base, variant
    yield text, None
    if "+" not in text and " " in text:
        base, _, variant = text.rpartition(" ")
        yield base, variant


def _value(stored: StoredFlow) -> bytes:
    return json.dumps(
        {"form": _FORM, "uid": str(stored.uid), "definition": stored.document},
        ensure_ascii=False,
        separators=(",", ":"),
    ).encode()


def _readable(value: bytes) -> bool:
    return value.startswith(b'{"form":%d,' % _FORM)


def _sound(kept: Kept[Flow | None]) -> Kept[Flow]:
    if kept.value is None:
        raise FlowUnavailable
    return kept  # type: ignore[return-value]  # narrowed by the line above
