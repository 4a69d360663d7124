"""A small LRU cache of values, each with what was made of it: made once, gone with the value.

What a worker makes of a flow (the parsed flow, its answers, their compressed forms) hangs on the
value it was made of and on nothing else. So it needs no invalidation of its own: a changed flow is
another value, found by other bytes, and the old one falls out of the shelf.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, Generic, NamedTuple, TypeVar

_Value = TypeVar("_Value")
_Made = TypeVar("_Made")


class Kept(Generic[_Value]):
    """One immutable value, and what was made of it."""

    __slots__ = ("_made", "value")

    def __init__(self, value: _Value) -> None:
        self.value = value
        self._made: dict[Callable[[_Value], Any], Any] = {}

    def once(self, make: Callable[[_Value], _Made]) -> _Made:
        """``make(value)``, called the first time only: a function of the value and nothing else."""
        try:
            made: _Made = self._made[make]
        except KeyError:
            made = self._made[make] = make(self.value)
        return made


class Shelf(Generic[_Value]):
    """The LRU cache: a value is found by what it was made of, such as its JSON.

    ``most_bytes`` bounds what the values were made of; in memory they take a small multiple of it.
    """

    def __init__(self, *, most_bytes: int, most_entries: int) -> None:
        self._most_bytes = most_bytes
        self._most_entries = most_entries
        self._kept: OrderedDict[Hashable, tuple[Kept[_Value], int]] = OrderedDict()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: Hashable) -> Kept[_Value] | None:
        found = self._kept.get(key)
        if found is None:
            return None
        self._kept.move_to_end(key)
        return found[0]

    def put(self, key: Hashable, value: _Value, size_bytes: int) -> Kept[_Value]:
        """Keep it; what is larger than the whole shelf is not kept, only given back."""
        kept = Kept(value)
        self._drop(key)
        if size_bytes <= self._most_bytes:
            self._kept[key] = kept, size_bytes
            self._bytes += size_bytes
            while self._bytes > self._most_bytes or len(self._kept) > self._most_entries:
                self._drop(next(iter(self._kept)))
        return kept

    def _drop(self, key: Hashable) -> None:
        dropped = self._kept.pop(key, None)
        if dropped is not None:
            self._bytes -= dropped[1]

    def __repr__(self) -> str:
        return f"<Shelf {len(self._kept)} values made of {self._bytes} bytes>"


class Found(NamedTuple, Generic[_Value]):
    """A kept value as it was read now; ``loaded_at_s`` on the monotonic clock.

    ``degraded``: given although it is past its age, because it could not be read anew.
    """

    kept: Kept[_Value]
    loaded_at_s: float
    degraded: bool

    @property
    def age_s(self) -> float:
        return max(0.0, time.monotonic() - self.loaded_at_s)
