"""The list of flows on sale: an index, and pieces of it that are cached each by itself.

The index says how the list is cut, and what each piece held: a digest of its rows' versions, which
is part of the piece's key. So a change makes the index another one, with one other piece (or those
behind a flow that comes or goes), and nothing else is read again; a piece needs no invalidation.
The index also holds a mark of every name, so that a name that is none costs no question at all.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import NamedTuple

from pydantic import TypeAdapter

from service.cache.cache import TieredCache
from service.cache.models import Cached
from service.errors import TollgateError
from service.flows.cached import INDEX
from service.flows.kept import Found, Shelf
from service.flows.models import Offer
from service.flows.repository import FlowRepository, PieceRow

#: Flows in a piece: the largest page is one or two of them.
PIECE_FLOWS = 100
#: Change when the cached forms do.
_INDEX_FORM = b'{"index":2,'
_PIECE_FORM = b'{"piece":1,'
#: Of a name's SHA-256: two of a million names share a mark once in forty million catalogs.
MARK_BYTES = 8
#: Reading a flow takes about half a millisecond, and nothing else of this worker goes on meanwhile.
_READ_AT_ONCE = 8
#: What the pages of this worker are made of; with their answers they take two to three times this.
_PAGES_BYTES = 4 * 1024 * 1024
_PAGES_ENTRIES = 1024
#: Indexes and pieces taken apart; their texts are the cache's own.
_PARTS_BYTES = 8 * 1024 * 1024
_PARTS_ENTRIES = 256

_OFFER = TypeAdapter(Offer)


@dataclass(frozen=True, slots=True)
class FlowPage:
    """Flows in the order of their slugs; ``next`` is the ``after`` of the following page."""

    lines: tuple[bytes, ...]
    next: str | None

    @property
    def flows(self) -> tuple[Offer, ...]:
        """Read anew at each call: what is kept of a page are its lines, and its answers."""
        return tuple(_OFFER.validate_json(line) for line in self.lines)


class Listing:
    """Pages of the list, and whether a name may be one of a flow."""

    def __init__(
        self,
        repository: FlowRepository,
        cache: TieredCache,
        offer: Callable[[PieceRow], Offer | None],
    ) -> None:
        """``offer`` reads a stored flow; None leaves it out of the list."""
        self._repository = repository
        self._cache = cache
        self._offer = offer
        self._indexes: Shelf[_Index] = Shelf(most_bytes=_PARTS_BYTES, most_entries=2)
        self._pieces: Shelf[_Piece] = Shelf(most_bytes=_PARTS_BYTES, most_entries=_PARTS_ENTRIES)
        self._pages: Shelf[FlowPage] = Shelf(most_bytes=_PAGES_BYTES, most_entries=_PAGES_ENTRIES)
        self._digests: frozenset[str] = frozenset()

    async def page(self, *, after: str | None, limit: int) -> Found[FlowPage]:
        """The flows on sale behind ``after``, by slug."""
        index, cached = await self._index()
        number = index.piece_of(after) if after else 0
        first: int | None = None
        loaded_at_s, degraded = cached.loaded_at_s, cached.degraded
        lines: list[bytes] = []
        digests: list[str] = []
        last, left = None, 0
        while len(lines) < limit and number < len(index.pieces):
            piece, read = await self._piece(index, number)
            begin = bisect_right(piece.slugs, after) if after and first is None else 0
            first = begin if first is None else first
            end = min(len(piece.slugs), begin + limit - len(lines))
            if end > begin:
                last = piece.slugs[end - 1]
            lines += piece.lines[begin:end]
            left = len(piece.slugs) - end
            digests.append(piece.digest)
            if read is not None:
                loaded_at_s = min(loaded_at_s, read.loaded_at_s)
                degraded = degraded or read.degraded
            number += 1
        more = left > 0 or number < len(index.pieces)
        key = (*digests, first, limit, more)
        kept = self._pages.get(key)
        if kept is None:
            page = FlowPage(tuple(lines), last if more else None)
            kept = self._pages.put(key, page, sum(map(len, lines)))
        return Found(kept, loaded_at_s, degraded)

    async def may_have(self, name: str) -> bool:
        """False: certainly no flow on sale has this name (see ``alias``)."""
        try:
            index, cached = await self._index()
        except TollgateError:
            return True  # not known: whoever asks on may know better, or fails with its own word
        return cached.degraded or index.has(name)

    async def _index(self) -> tuple[_Index, Cached]:
        cached = await self._cache.get(INDEX, self._load_index)
        value = cached.value or b""
        if not value.startswith(_INDEX_FORM):
            value = await self._load_index()
        kept = self._indexes.get(value)
        if kept is None:
            kept = self._indexes.put(value, _Index.read(value), len(value))
            self._digests = frozenset(entry.digest for entry in kept.value.pieces)
        return kept.value, cached

    async def _load_index(self) -> bytes:
        row = await self._repository.index(PIECE_FLOWS, MARK_BYTES)
        # Pieces nobody will ask for any more, as far as this worker knows them.
        gone = self._digests - {digest for _, digest in row.pieces}
        if gone:
            await self._cache.invalidate(_piece_key(digest) for digest in gone)
        head = json.dumps({"index": 2, "pieces": row.pieces}, separators=(",", ":"))
        return head.encode() + b"\n" + row.marks

    async def _piece(self, index: _Index, number: int) -> tuple[_Piece, Cached | None]:
        wanted = index.pieces[number]

        async def load() -> bytes:
            piece = await self._read_piece(index, number)
            if piece.digest != wanted.digest:
                raise _Moved(piece)
            return piece.text()

        try:
            cached = await self._cache.get(_piece_key(wanted.digest), load)
        except _Moved as moved:
            # Changed since the index was read, and nobody has said so yet.
            await self._cache.invalidate([INDEX])
            return moved.piece, None
        value = cached.value or b""
        if not value.startswith(_PIECE_FORM):
            return await self._read_piece(index, number), None
        kept = self._pieces.get(value)
        if kept is None:
            kept = self._pieces.put(value, _Piece.read(wanted.digest, value), len(value))
        return kept.value, cached

    async def _read_piece(self, index: _Index, number: int) -> _Piece:
        following = index.pieces[number + 1].first if number + 1 < len(index.pieces) else None
        rows = await self._repository.piece(index.pieces[number].first, following)
        slugs, lines = [], []
        for count, row in enumerate(rows, start=1):
            if (offer := self._offer(row)) is not None:
                slugs.append(row.slug)
                lines.append(_line(offer))
            if count % _READ_AT_ONCE == 0:
                await asyncio.sleep(0)
        return _Piece(_digest(rows), tuple(slugs), tuple(lines))


class _Entry(NamedTuple):
    first: str
    digest: str


@dataclass(frozen=True, slots=True)
class _Index:
    pieces: tuple[_Entry, ...]
    marks: bytes

    @classmethod
    def read(cls, value: bytes) -> _Index:
        head, _, marks = value.partition(b"\n")
        return cls(tuple(_Entry(*entry) for entry in json.loads(head)["pieces"]), marks)

    def piece_of(self, slug: str) -> int:
        """The piece in which this slug stands, or would."""
        return max(0, bisect_right(self.pieces, slug, key=lambda entry: entry.first) - 1)

    def has(self, name: str) -> bool:
        mark, marks = hashlib.sha256(name.encode()).digest()[:MARK_BYTES], self.marks

        def at(number: int) -> bytes:
            return marks[number * MARK_BYTES : (number + 1) * MARK_BYTES]

        found = bisect_left(range(len(marks) // MARK_BYTES), mark, key=at)
        return at(found) == mark


@dataclass(frozen=True, slots=True)
class _Piece:
    digest: str
    slugs: tuple[str, ...]
    lines: tuple[bytes, ...]

    @classmethod
    def read(cls, digest: str, value: bytes) -> _Piece:
        head, *lines = value.split(b"\n")
        return cls(digest, tuple(json.loads(head)["slugs"]), tuple(lines))

    def text(self) -> bytes:
        head = json.dumps({"piece": 1, "slugs": self.slugs}, separators=(",", ":"))
        return b"\n".join((head.encode(), *self.lines))


class _Moved(TollgateError):
    """The list has changed since its index was read."""

    def __init__(self, piece: _Piece) -> None:
        super().__init__()
        self.piece = piece


def _line(offer: Offer) -> bytes:
    """As JSON, in one line; what else a flow holds is left out."""
    own = {field.name: getattr(offer, field.name) for field in fields(Offer)}
    return _OFFER.dump_json(
        replace(Offer(**own), variants=dict(offer.variants)), exclude_defaults=True
    )


def _digest(rows: Sequence[PieceRow]) -> str:
    """As the statement ``read_index`` makes it."""
    text = ",".join(f"{row.slug} {row.version}" for row in rows)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _piece_key(digest: str) -> str:
    return f"list:{digest}"
