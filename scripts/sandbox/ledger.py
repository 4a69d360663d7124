"""All payments of the sandbox, its clock, and the two orders they are listed in.

Nothing runs in the background: ``settle`` applies what has become due, at its own moment and in
order, before anything is read or written. So an advanced clock is no special case.
"""

from __future__ import annotations

import bisect
import heapq
import secrets
import time
from collections.abc import Callable, Iterator
from functools import partial

from scripts.sandbox import life
from scripts.sandbox.identifiers import seal
from scripts.sandbox.journal import Journal
from scripts.sandbox.life import Pace
from scripts.sandbox.records import Chain, Record, Terms

Filter = Callable[[Record, Chain], bool]

#: Of events at the same moment, the one that comes first in a payment's life happens first.
RANKS = {event: rank for rank, event in enumerate(life.EVENTS)}


class Ledger:
    def __init__(self, pace: Pace, journal: Journal | None = None) -> None:
        self.pace = pace
        self._journal = journal
        #: Identifiers of purchasers who pay by themselves; for these, no payment pays itself.
        self.by_hand: set[str] = set()
        self._ahead_ms = 0
        self._records: dict[str, Record] = {}
        self._by_identifier: dict[str, Record] = {}
        #: (when, rank, id, event); counts only while its record still has that event then.
        self._due: list[tuple[int, int, str, str]] = []
        #: (when, id) of every change, ascending.
        self._changes: list[tuple[int, str]] = []
        for record in journal.records() if journal else ():
            self._add(record)

    def __len__(self) -> int:
        return len(self._records)

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000 + self._ahead_ms

    def advance(self, ms: int) -> None:
        self._ahead_ms += ms
        self.settle()

    def create(self, terms: Terms) -> Record:
        """One more payment; nothing ever makes two calls one."""
        now_ms = self.now_ms()
        number = len(self._records)
        record = Record(
            id=f"c{now_ms:011x}{number:06x}{secrets.token_hex(4)}"[:26],
            blockchain_identifier=seal(terms),
            created_ms=now_ms,
            terms=terms,
            history=[Chain(at_ms=now_ms, action_at_ms=now_ms, chain_at_ms=now_ms)],
        )
        life.begin(record, self.pace, by_hand=terms.identifier_from_purchaser in self.by_hand)
        self._add(record)
        self._write(record)
        return record

    def change(self, record: Record, act: Callable[[Record], None]) -> None:
        """Let something happen to a payment, and note it."""
        known = len(record.history)
        act(record)
        self._index(record, known)
        self._write(record)

    def settle(self) -> None:
        now_ms = self.now_ms()
        while self._due and self._due[0][0] <= now_ms:
            at_ms, _, record_id, event = heapq.heappop(self._due)
            record = self._records.get(record_id)
            if record is None or record.due.get(event) != at_ms:
                continue
            del record.due[event]
            happen = life.EVENTS[event]
            self.change(record, partial(_happen, happen, at_ms))

    def by_identifier(self, blockchain_identifier: str) -> Record | None:
        return self._by_identifier.get(blockchain_identifier)

    def get(self, reference: str) -> Record | None:
        """By id, blockchain identifier or metadata: for the control route only."""
        known = self._records.get(reference) or self._by_identifier.get(reference)
        return known or next((r for r in self.oldest() if r.terms.metadata == reference), None)

    def oldest(self) -> Iterator[Record]:
        return iter(self._records.values())

    def newest(self, wanted: Filter, *, limit: int, cursor: str | None) -> list[Record]:
        """Newest first; the cursor's own row is the first of the page."""
        if cursor is not None and cursor not in self._records:
            return []
        page: list[Record] = []
        begun = cursor is None
        for record in reversed(self._records.values()):
            begun = begun or record.id == cursor
            if begun and wanted(record, record.now):
                page.append(record)
                if len(page) == limit:
                    break
        return page

    def changed(
        self,
        wanted: Filter,
        *,
        since_ms: int,
        limit: int,
        cursor: str | None,
        horizon_ms: int,
        moment: Callable[[Chain], int] = lambda chain: chain.at_ms,
    ) -> list[Record]:
        """Oldest change first, inclusive; a cursor stands where its row stands now."""
        start = (since_ms, "")
        if cursor is not None:
            row = self._records.get(cursor)
            if row is None:
                return []
            start = max(start, (moment(row.seen(horizon_ms)), row.id))
        found: list[tuple[int, str]] = []
        # Every moment asked for is at most the row's last change, so the index can be entered here.
        for _, record_id in self._changes[bisect.bisect_left(self._changes, (start[0], "")) :]:
            record = self._records[record_id]
            chain = record.seen(horizon_ms)
            at = (moment(chain), record_id)
            if at >= start and at[0] <= horizon_ms and wanted(record, chain):
                found.append(at)
        page = sorted(set(found))[:limit]
        return [self._records[record_id] for _, record_id in page]

    def close(self) -> None:
        if self._journal is not None:
            self._journal.close()

    def _add(self, record: Record) -> None:
        self._records[record.id] = record
        self._by_identifier[record.blockchain_identifier] = record
        self._index(record, 0)

    def _index(self, record: Record, known: int) -> None:
        for chain in record.history[known:]:
            bisect.insort(self._changes, (chain.at_ms, record.id))
        for event, at_ms in record.due.items():
            heapq.heappush(self._due, (at_ms, RANKS[event], record.id, event))

    def _write(self, record: Record) -> None:
        if self._journal is not None:
            self._journal.write(record)


def _happen(event: life.Event, at_ms: int, record: Record) -> None:
    event(record, at_ms)
