"""Paging against lists that behave as the payment service's do, without any I/O."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import PaymentUnavailable
from service.payments import listing
from service.payments.models import V1, V2, Payment, Unreadable, Watermark, iso_utc

START = datetime(2026, 1, 1, tzinfo=UTC)


def payment(number: int, *, changed_ms: int = 0, source_type: str = V1) -> Payment:
    return Payment(
        id=f"c{number:05}",
        blockchain_identifier=f"{number:04x}",
        agent_identifier="agent",
        pay_by_time_ms=1,
        submit_result_time_ms=2,
        unlock_time_ms=3,
        external_dispute_unlock_time_ms=4,
        seller_vkey="vkey",
        on_chain_state=None,
        next_action="WaitingForExternalAction",
        error_type=None,
        error_note=None,
        result_hash=None,
        next_action_result_hash=None,
        metadata=f"job {number}",
        payment_source_type=source_type,
        created_at=START + timedelta(seconds=number),
        updated_at="",
        last_changed_at=iso_utc(START + timedelta(milliseconds=changed_ms)),
    )


def moment(row: Payment) -> tuple[datetime, str]:
    return datetime.fromisoformat(row.last_changed_at), row.id


class Service:
    """Newest first with the cursor's row again; changes inclusive, in order of (moment, id).

    What is given of a row in ``odd`` is all that can be read of it.
    """

    def __init__(self, rows: list[Payment], odd: dict[str, Unreadable] | None = None) -> None:
        self.rows = rows
        self.odd = odd or {}
        self.reads = 0

    def _shown(self, rows: list[Payment]) -> tuple[Payment | Unreadable, ...]:
        return tuple(self.odd.get(row.id, row) for row in rows)

    async def page(self, source_type: str, cursor: str | None) -> tuple[Payment | Unreadable, ...]:
        self.reads += 1
        rows = sorted(self.rows, key=lambda row: row.id, reverse=True)
        rows = [row for row in rows if row.payment_source_type == source_type]
        if cursor is not None:
            rows = [row for row in rows if row.id <= cursor]
        return self._shown(rows[: listing.PAGE])

    async def changes(
        self, source_type: str, since: Watermark, limit: int
    ) -> tuple[Payment | Unreadable, ...]:
        self.reads += 1
        start = (datetime.fromisoformat(since.last_update), "")
        if since.cursor_id is not None:
            start = max(start, *(moment(r) for r in self.rows if r.id == since.cursor_id))
        rows = sorted(self.rows, key=moment)
        rows = [row for row in rows if row.payment_source_type == source_type]
        return self._shown([row for row in rows if moment(row) >= start][:limit])


async def drain(service: Service, mark: Watermark, *, limit: int) -> tuple[set[str], Watermark]:
    seen: set[str] = set()
    for _ in range(500):
        page = await listing.changes(mark, limit=limit, read=service.changes)
        seen |= {row.id for row in page.payments}
        mark = page.next
        if page.complete:
            return seen, mark
    pytest.fail("the feed never ended")


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 6, 7])
async def test_every_row_is_looked_at_whatever_the_page_breaks(
    count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "PAGE", 3)
    service = Service([payment(number) for number in range(count)])
    for number in range(count):
        found = await listing.find(f"job {number}", created_after=START, read=service.page)
        assert found is not None
        assert found.id == f"c{number:05}"
    assert await listing.find("no job", created_after=START, read=service.page) is None


async def test_endless_list_is_no_proof_of_absence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "PAGE", 2)
    monkeypatch.setattr(listing, "MOST_PAGES", 3)
    service = Service([payment(number) for number in range(20)])
    with pytest.raises(PaymentUnavailable):
        await listing.find("no job", created_after=START, read=service.page)


async def test_list_that_does_not_go_on_is_no_proof_of_absence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(listing, "PAGE", 2)
    service = Service([payment(number) for number in range(20)])

    async def first_page(source_type: str, _: str | None) -> tuple[Payment | Unreadable, ...]:
        return await service.page(source_type, None)

    with pytest.raises(PaymentUnavailable):
        await listing.find("no job", created_after=START, read=first_page)


async def test_of_two_payments_for_one_job_the_older_counts() -> None:
    twins = [payment(1), payment(2)]
    service = Service([twins[0], _twin(twins[1], metadata="job 1")])
    found = await listing.find("job 1", created_after=START, read=service.page)
    assert found is not None
    assert found.id == twins[0].id


@given(
    st.lists(st.tuples(st.integers(0, 6), st.sampled_from([V1, V2])), max_size=25),
    st.integers(2, 6),
)
async def test_feed_delivers_every_change_and_then_ends(
    rows: list[tuple[int, str]], limit: int
) -> None:
    """Many changes share a moment, more than a page holds; the two types are mixed at will."""
    payments = [
        payment(number, changed_ms=changed_ms, source_type=source_type)
        for number, (changed_ms, source_type) in enumerate(rows)
    ]
    seen, mark = await drain(Service(payments), Watermark(iso_utc(START)), limit=limit)
    assert seen == {row.id for row in payments}
    assert mark.cursor_id is None


@given(st.lists(st.integers(0, 6), min_size=1, max_size=25), st.integers(2, 6), st.data())
async def test_change_behind_the_mark_is_delivered(
    moments: list[int], limit: int, data: st.DataObject
) -> None:
    """A row already seen that changes again comes again, however the feed stood."""
    payments = [payment(n, changed_ms=changed_ms) for n, changed_ms in enumerate(moments)]
    service = Service(payments)
    _, mark = await drain(service, Watermark(iso_utc(START)), limit=limit)
    index = data.draw(st.integers(0, len(payments) - 1))
    payments[index] = payment(index, changed_ms=max(moments) + 1)
    seen, _ = await drain(service, mark, limit=limit)
    assert payments[index].id in seen


def odd(row: Payment, *parts: str) -> dict[str, Unreadable]:
    """This row, of which only these parts can be read."""
    names = ("id", "metadata", "created_at", "last_changed_at")
    known = {name: getattr(row, name) if name in parts else None for name in names}
    return {row.id: Unreadable(**known, fault="odd")}


@given(
    st.lists(st.tuples(st.integers(0, 6), st.sampled_from([V1, V2])), min_size=1, max_size=25),
    st.integers(2, 6),
    st.data(),
)
async def test_feed_goes_past_a_payment_that_cannot_be_read(
    rows: list[tuple[int, str]], limit: int, data: st.DataObject
) -> None:
    """Wherever it stands and however little of it can be read, all others are delivered."""
    payments = [
        payment(number, changed_ms=changed_ms, source_type=source_type)
        for number, (changed_ms, source_type) in enumerate(rows)
    ]
    hidden = data.draw(st.sampled_from(payments))
    parts = data.draw(st.sampled_from([("id", "last_changed_at"), ("id",), ()]))
    limit += len(parts) < 2  # a page must hold more than the cursor's own row and this one
    service = Service(payments, odd(hidden, *parts))
    seen, mark = await drain(service, Watermark(iso_utc(START)), limit=limit)
    assert seen == {row.id for row in payments} - {hidden.id}
    assert mark.cursor_id is None


async def test_feed_of_nothing_but_an_unreadable_payment_moves_on() -> None:
    only = payment(1, changed_ms=5)
    service = Service([only], odd(only, "id", "last_changed_at"))
    page = await listing.changes(Watermark(iso_utc(START)), limit=100, read=service.changes)
    assert page.payments == ()
    assert page.next == Watermark(only.last_changed_at)


@pytest.mark.parametrize("last", [("id",), ()])
async def test_search_goes_on_past_unreadable_payments(
    last: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where they end a page, and the next one begins at the last that tells its name."""
    monkeypatch.setattr(listing, "PAGE", 3)
    rows = [payment(number) for number in range(8)]
    service = Service(rows, odd(rows[5], *last))
    for row in (rows[7], rows[4], rows[0]):
        assert row.metadata is not None
        assert await listing.find(row.metadata, created_after=START, read=service.page) == row


@pytest.mark.parametrize("parts", [(), ("id", "created_at"), ("id", "created_at", "metadata")])
async def test_unreadable_payment_that_may_be_ours_is_no_proof_of_absence(
    parts: tuple[str, ...],
) -> None:
    rows = [payment(number) for number in range(3)]
    service = Service(rows, odd(rows[1], *parts))
    with pytest.raises(PaymentUnavailable):
        await listing.find("job 1", created_after=START, read=service.page)


async def test_unreadable_payment_of_somebody_else_or_before_our_time_proves_absence() -> None:
    rows = [payment(number) for number in range(3)]
    of_another = Service(rows, odd(rows[1], "metadata"))
    assert await listing.find("no job", created_after=START, read=of_another.page) is None
    later = START + listing.CLOCK_MARGIN + timedelta(seconds=1.5)
    before = Service(rows, odd(rows[0]))  # older than one that is too old
    assert await listing.find("no job", created_after=later, read=before.page) is None


def _twin(row: Payment, *, metadata: str) -> Payment:
    values = {name: getattr(row, name) for name in Payment.__slots__}
    return Payment(**(values | {"metadata": metadata}))
