"""A worker's own tier: immutable values, bounded in number and bytes, the least used out first.

What is known not to exist (the negative entries: ``unknowns``) is kept apart, with a bound of its
own: a flood of names that nobody has must not push out the values.
"""

from __future__ import annotations

import sys
from collections import OrderedDict
from dataclasses import dataclass, replace

from service.cache.models import Cached

#: An entry's objects and its place in the map, beside key and value; measured, rounded up.
ENTRY_BYTES = 400


@dataclass(frozen=True, slots=True)
class Entry:
    """A value as this worker keeps it, given without asking until ``good_until_s`` (monotonic).

    After that it is kept only for when nothing better can be had. ``stamp`` names the load it is
    from, as Redis does; 0 for one that Redis does not know.
    """

    cached: Cached
    good_until_s: float
    stamp: int = 0


class LocalTier:
    def __init__(self, *, entries: int, bytes_: int, unknowns: int) -> None:
        self._most_entries = entries
        self._most_bytes = bytes_
        self._most_unknowns = unknowns
        self._values: OrderedDict[str, Entry] = OrderedDict()
        self._unknowns: OrderedDict[str, Entry] = OrderedDict()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._values)

    @property
    def unknowns(self) -> int:
        return len(self._unknowns)

    @property
    def bytes(self) -> int:
        return self._bytes

    def get(self, key: str) -> Entry | None:
        entry = self._values.get(key)
        if entry is not None:
            self._values.move_to_end(key)
            return entry
        return self._unknowns.get(key)

    def put(self, key: str, entry: Entry) -> None:
        self.drop(key)
        size = _size(key, entry)
        if entry.cached.value is None:
            self._unknowns[key] = entry
        elif size <= self._most_bytes:
            self._values[key] = entry
        else:
            return
        self._bytes += size
        if len(self._unknowns) > self._most_unknowns:
            self._bytes -= _size(*self._unknowns.popitem(last=False))
        while len(self._values) > self._most_entries or (
            self._bytes > self._most_bytes and self._values
        ):
            self._bytes -= _size(*self._values.popitem(last=False))

    def crowded(self, now_s: float) -> bool:
        """Are unknown names being asked for faster than they can be remembered?"""
        if len(self._unknowns) < self._most_unknowns:
            return False
        return next(iter(self._unknowns.values())).good_until_s > now_s

    def drop(self, key: str) -> None:
        entry = self._values.pop(key, None) or self._unknowns.pop(key, None)
        if entry is not None:
            self._bytes -= _size(key, entry)

    def doubt(self) -> None:
        """Any value may have changed: give none before it has been asked for again."""
        self._bytes -= sum(_size(key, entry) for key, entry in self._unknowns.items())
        self._unknowns.clear()
        for key, entry in self._values.items():
            self._values[key] = replace(entry, good_until_s=0.0)


def _size(key: str, entry: Entry) -> int:
    return ENTRY_BYTES + sys.getsizeof(key) + len(entry.cached.value or b"")
