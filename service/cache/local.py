"""A worker's own tier: a bounded map of immutable values, least recently used first out."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Entry:
    """A value as this worker knows it; instants on the monotonic clock, in seconds.

    After ``good_until_s`` it is only kept for when nothing better can be had.
    """

    value: bytes | None
    loaded_at_s: float
    good_until_s: float
    stale: bool
    degraded: bool = False


class LocalTier:
    """At most ``most_entries`` values."""

    def __init__(self, most_entries: int) -> None:
        self._most_entries = most_entries
        self._entries: OrderedDict[str, Entry] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: str) -> Entry | None:
        entry = self._entries.get(key)
        if entry is not None:
            self._entries.move_to_end(key)
        return entry

    def keys(self) -> tuple[str, ...]:
        return tuple(self._entries)

    def put(self, key: str, entry: Entry) -> None:
        self._entries[key] = entry
        self._entries.move_to_end(key)
        if len(self._entries) > self._most_entries:
            self._entries.popitem(last=False)

    def drop(self, key: str) -> None:
        self._entries.pop(key, None)
