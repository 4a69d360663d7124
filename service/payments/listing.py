"""Reading the payment service's lists without missing a row.

Two traps of theirs shape this: a listing shows one source type unless asked for each, and a
cursor's own row comes again on the next page. ``find`` answers None only when the whole time in
question was seen; anything less raises, because its caller may then ask for a second payment.
A row that cannot be read keeps its place among the others, and is passed over.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from service.errors import PaymentUnavailable
from service.payments.models import SOURCE_TYPES, ChangePage, Payment, Unreadable, Watermark

#: The longest page the service gives.
PAGE = 100
#: Our clock and the payment service's may differ this much.
CLOCK_MARGIN = timedelta(minutes=5)
#: Pages of one search; more payments than this since one was asked for are not plausible.
MOST_PAGES = 200

#: (source type, cursor) -> one page, newest first.
ReadPage = Callable[[str, str | None], Awaitable[tuple[Payment | Unreadable, ...]]]
#: (source type, since, limit) -> changes, oldest first.
ReadChanges = Callable[[str, Watermark, int], Awaitable[tuple[Payment | Unreadable, ...]]]


async def find(
    metadata: str,
    *,
    created_after: datetime,
    read: ReadPage,
    source_types: Sequence[str] = SOURCE_TYPES,
) -> Payment | None:
    """The payment with this metadata, or None when there certainly is none.

    Were there two, the older: the one a purchaser may have been told of.
    """
    horizon = created_after - CLOCK_MARGIN
    found: list[Payment] = []
    doubtful = False
    for source_type in source_types:
        for row in await _read_back_to(horizon, source_type, read):
            if isinstance(row, Unreadable):
                doubtful = doubtful or row.metadata in (None, metadata)
            elif row.metadata == metadata:
                found.append(row)
    if doubtful and not found:
        raise PaymentUnavailable(
            "A payment in the list, perhaps the one in question, is unreadable."
        )
    return min(found, key=lambda payment: payment.created_at, default=None)


async def _read_back_to(
    horizon: datetime, source_type: str, read: ReadPage
) -> list[Payment | Unreadable]:
    """Every row that may be from after the horizon, and some older payments."""
    rows: list[Payment | Unreadable] = []
    seen: set[str] = set()
    cursor: str | None = None
    for _ in range(MOST_PAGES):
        page = await read(source_type, cursor)
        before, past = len(seen), False
        for row in page:
            # Newest first: a row that does not tell its age is no newer than the one before it.
            past = row.created_at < horizon if row.created_at is not None else past
            if row.id not in seen and not (past and isinstance(row, Unreadable)):
                rows.append(row)
            if row.id is not None:
                seen.add(row.id)
                cursor = row.id
        if past or len(page) < PAGE:
            return rows
        if len(seen) == before:
            raise PaymentUnavailable("The payment service's list does not go on.")
    raise PaymentUnavailable("The payment service's list is too long to be searched.")


@dataclass(frozen=True, slots=True, order=True)
class _Place:
    """Where a row stands in the feed; empty ``id``: at the beginning of what was asked for."""

    moment: datetime
    id: str
    #: The moment as the service wrote it.
    last_update: str = field(compare=False)


async def changes(since: Watermark, *, limit: int, read: ReadChanges) -> ChangePage:
    """The next changes over all source types, merged in the order they happened."""
    feeds = [_placed(await read(name, since, limit), since) for name in SOURCE_TYPES]
    full = [feed for feed in feeds if len(feed) >= limit]
    merged = sorted((each for feed in feeds for each in feed), key=lambda each: each[0])
    if full:
        # Behind the end of a full page there may be more of its type, so nothing later counts yet.
        horizon = min(feed[-1][0] for feed in full)
        merged = [each for each in merged if each[0] <= horizon]
    if not merged:
        return ChangePage((), since, complete=not full)
    last = merged[-1][0]
    mark = Watermark(last.last_update)
    if full and last.moment <= _moment(since.last_update):
        # A whole page within one moment: only a cursor gets past it. Otherwise none is kept: it
        # stands where its row stands *now*, and if that has changed again, everything between
        # would be passed over.
        mark = Watermark(since.last_update, last.id or None)
    payments = tuple(row for _, row in merged if isinstance(row, Payment))
    return ChangePage(payments, mark, complete=not full)


def _placed(
    feed: Sequence[Payment | Unreadable], since: Watermark
) -> list[tuple[_Place, Payment | Unreadable]]:
    """Each row with its place; one that does not tell it stands where the row before it does."""
    place = _Place(_moment(since.last_update), since.cursor_id or "", since.last_update)
    placed = []
    for row in feed:
        if row.id is not None and row.last_changed_at is not None:
            place = _Place(_moment(row.last_changed_at), row.id, row.last_changed_at)
        placed.append((place, row))
    return placed


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)
