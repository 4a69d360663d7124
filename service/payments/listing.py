"""Reading the payment service's lists without missing a row.

Two traps of theirs shape this: a listing shows one source type unless asked for each, and a
cursor's own row comes again on the next page. ``find`` answers None only when the whole time in
question was seen; anything less raises, because its caller may then ask for a second payment.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta

from service.errors import PaymentUnavailable
from service.payments.models import SOURCE_TYPES, ChangePage, Payment, Watermark

#: The longest page the service gives.
PAGE = 100
#: Our clock and the payment service's may differ this much.
CLOCK_MARGIN = timedelta(minutes=5)
#: Pages of one search; more payments than this since one was asked for are not plausible.
MOST_PAGES = 200

#: (source type, cursor) -> one page, newest first.
ReadPage = Callable[[str, str | None], Awaitable[tuple[Payment, ...]]]
#: (source type, since, limit) -> changes, oldest first.
ReadChanges = Callable[[str, Watermark, int], Awaitable[tuple[Payment, ...]]]


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
    for source_type in source_types:
        found += [
            payment
            for payment in await _read_back_to(horizon, source_type, read)
            if payment.metadata == metadata
        ]
    return min(found, key=lambda payment: payment.created_at, default=None)


async def _read_back_to(horizon: datetime, source_type: str, read: ReadPage) -> list[Payment]:
    seen: dict[str, Payment] = {}
    cursor: str | None = None
    for _ in range(MOST_PAGES):
        page = await read(source_type, cursor)
        fresh = [payment for payment in page if payment.id not in seen]
        seen.update((payment.id, payment) for payment in fresh)
        if len(page) < PAGE or page[-1].created_at < horizon:
            return list(seen.values())
        if not fresh:
            raise PaymentUnavailable("The payment service's list does not go on.")
        cursor = page[-1].id
    raise PaymentUnavailable("The payment service's list is too long to be searched.")


async def changes(since: Watermark, *, limit: int, read: ReadChanges) -> ChangePage:
    """The next changes over all source types, merged in the order they happened."""
    feeds = [await read(source_type, since, limit) for source_type in SOURCE_TYPES]
    full = [feed for feed in feeds if len(feed) >= limit]
    merged = sorted((payment for feed in feeds for payment in feed), key=_position)
    if full:
        # Behind the end of a full page there may be more of its type, so nothing later counts yet.
        horizon = min(_position(feed[-1]) for feed in full)
        merged = [payment for payment in merged if _position(payment) <= horizon]
    if not merged:
        return ChangePage((), since, complete=not full)
    last = merged[-1]
    mark = Watermark(last.last_changed_at)
    if full and _moment(last.last_changed_at) <= _moment(since.last_update):
        # A whole page within one moment: only a cursor gets past it. Otherwise none is kept: it
        # stands where its row stands *now*, and if that has changed again, everything between
        # would be passed over.
        mark = Watermark(since.last_update, last.id)
    return ChangePage(tuple(merged), mark, complete=not full)


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _position(payment: Payment) -> tuple[datetime, str]:
    return _moment(payment.last_changed_at), payment.id
