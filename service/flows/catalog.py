"""The flows on sale, read through the cache: every name leads to one value, kept once.

In the cache an alias holds a uid and the uid holds the flow, so that a change replaces one value
however many names it has. Values are JSON with a tag: a worker of another version that finds them
reads the database instead of guessing.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from functools import lru_cache
from uuid import UUID

import structlog
from pydantic import ValidationError

from service.cache.cache import TieredCache
from service.database import Database
from service.errors import ConfigurationError, UnknownFlow
from service.flows.definition import FlowDefinition, alias, definition_of
from service.flows.models import Flow, FlowPage, ImportReport, Variant
from service.flows.repository import FlowRepository, IndexEntry, StoredFlow

log = structlog.get_logger()

#: Changes when the cached form does.
_FORM = 1
_INDEX = "index"
#: A name has at most 200 characters, a variant at most 63; nothing longer is looked for.
_REFERENCE_CHARACTERS = 270
#: Parsed flows kept per worker, so that a request does not read the whole definition again.
_PARSED = 512


class Catalog:
    def __init__(self, database: Database, cache: TieredCache) -> None:
        self._repository = FlowRepository(database)
        self._cache = cache
        self._parsed = lru_cache(maxsize=_PARSED)(_flow)

    async def get(self, reference: str) -> tuple[Flow, Variant]:
        """The flow and variant meant by ``slug``, ``slug+variant``, a uid or a name.

        Raises UnknownFlow.
        """
        for text, variant in _readings(reference):
            if (uid := await self._uid_of(text)) is not None:
                flow = await self.by_uid(uid)
                return flow, flow.variant(variant)
        raise UnknownFlow

    async def by_uid(self, uid: UUID) -> Flow:
        """The flow, on sale or withdrawn; raises UnknownFlow."""

        async def load() -> bytes | None:
            stored = await self._repository.find(uid)
            return _value(stored) if stored else None

        value = (await self._cache.get(f"uid:{uid}", load)).value
        if value is not None and not _readable(value):
            value = await load()
        if value is None:
            raise UnknownFlow
        return self._parsed(value)

    async def page(self, *, after: str | None, limit: int) -> FlowPage:
        """Flows on sale by slug, beginning behind ``after``."""
        index = await self._index()
        first = bisect_right(index, after, key=lambda entry: entry.slug) if after else 0
        wanted = index[first : first + limit]
        flows = []
        for entry in wanted:
            try:
                flows.append(await self.by_uid(entry.uid))
            except (UnknownFlow, ConfigurationError):  # deleted meanwhile, or logged as unreadable
                continue
        more = first + limit < len(index)
        return FlowPage(tuple(flows), wanted[-1].slug if more and wanted else None)

    async def store(self, definitions: Sequence[FlowDefinition]) -> ImportReport:
        """Import: all or nothing, and nothing where nothing changed.

        Raises ConfigurationError where names clash with what is stored.
        """
        saved = await self._repository.save(definitions)
        keys = [f"uid:{uid}" for uid in saved.uids]
        keys += [f"alias:{name}" for name in saved.aliases]
        if keys:
            await self._cache.invalidate([*keys, _INDEX])
        return saved.report

    async def _uid_of(self, text: str) -> UUID | None:
        name = alias(text)

        async def load() -> bytes | None:
            uid = await self._repository.uid_of(name)
            return str(uid).encode() if uid else None

        value = (await self._cache.get(f"alias:{name}", load)).value
        return UUID(value.decode()) if value is not None else None

    async def _index(self) -> tuple[IndexEntry, ...]:
        async def load() -> bytes:
            entries = await self._repository.index()
            return json.dumps([[entry.slug, str(entry.uid)] for entry in entries]).encode()

        value = (await self._cache.get(_INDEX, load)).value or b"[]"
        return tuple(IndexEntry(slug, UUID(uid)) for slug, uid in json.loads(value))


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


def _flow(value: bytes) -> Flow:
    content = json.loads(value)
    try:
        return definition_of(content["definition"]).flow(UUID(content["uid"]))
    except ValidationError as error:
        # Stored by a version with other rules; importing the flow again says what is wrong.
        log.error("stored_flow_unreadable", uid=content["uid"], faults=error.error_count())
        raise ConfigurationError("A stored flow does not keep the rules of this version.") from None
