"""Kept values: made once, dropped by age and size, and what was made of them goes with them."""

from __future__ import annotations

import gc
import weakref

import pytest

from service.flows.kept import Kept, Shelf


class Made:
    """Something made of a value."""


def shelf(most_bytes: int = 100, most_entries: int = 10) -> Shelf[str]:
    return Shelf(most_bytes=most_bytes, most_entries=most_entries)


def test_what_is_made_of_a_value_is_made_once() -> None:
    calls: list[str] = []

    def first(value: str) -> str:
        calls.append(value)
        return value.upper()

    def second(value: str) -> int:
        return len(value)

    kept = Kept("flow")
    assert [kept.once(first), kept.once(first), kept.once(second)] == ["FLOW", "FLOW", 4]
    assert calls == ["flow"]


def test_what_failed_to_be_made_is_tried_again() -> None:
    calls: list[str] = []

    def make(value: str) -> str:
        calls.append(value)
        if len(calls) == 1:
            raise ValueError("not yet")
        return "made"

    kept = Kept("flow")
    with pytest.raises(ValueError, match="not yet"):
        kept.once(make)
    assert kept.once(make) == "made"


def test_least_recently_used_goes_first() -> None:
    few = shelf(most_entries=2)
    few.put("a", "A", 1)
    few.put("b", "B", 1)
    assert few.get("a") is not None
    few.put("c", "C", 1)
    assert few.get("b") is None
    assert few.get("a") is not None
    assert len(few) == 2


def test_bytes_are_bounded_too() -> None:
    small = shelf(most_bytes=100)
    for name in "abcd":
        small.put(name, name, 40)
    assert [name for name in "abcd" if small.get(name)] == ["c", "d"]
    small.put("large", "x", 100)
    assert [name for name in (*"abcd", "large") if small.get(name)] == ["large"]


def test_what_is_put_again_counts_once() -> None:
    small = shelf(most_bytes=100)
    for _ in range(5):
        small.put("a", "A", 60)
    small.put("b", "B", 40)
    assert small.get("a") is not None
    assert small.get("b") is not None


def test_what_is_too_large_is_given_back_and_pushes_nothing_out() -> None:
    small = shelf(most_bytes=100)
    small.put("a", "A", 100)
    assert small.put("huge", "H", 101).value == "H"
    assert small.get("huge") is None
    assert small.get("a") is not None


def test_what_was_made_goes_with_its_value() -> None:
    one = shelf(most_entries=1)
    made = weakref.ref(one.put("a", "A", 1).once(lambda _: Made()))
    assert made() is not None
    one.put("b", "B", 1)
    gc.collect()
    assert made() is None
