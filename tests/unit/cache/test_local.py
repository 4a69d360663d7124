from __future__ import annotations

import pytest

from service.cache.local import Entry, LocalTier


def entry(value: bytes = b"v") -> Entry:
    return Entry(value, loaded_at_s=0.0, good_until_s=5.0, stale=False)


def test_holds_no_more_than_its_bound_and_drops_the_least_recently_used() -> None:
    tier = LocalTier(2)
    tier.put("a", entry())
    tier.put("b", entry())
    assert tier.get("a") is not None
    tier.put("c", entry())
    assert len(tier) == 2
    assert tier.get("b") is None
    assert tier.get("a") is not None


def test_a_newer_value_takes_the_place_of_the_old_one() -> None:
    tier = LocalTier(2)
    tier.put("a", entry(b"old"))
    tier.put("a", entry(b"new"))
    kept = tier.get("a")
    assert len(tier) == 1
    assert kept is not None
    assert kept.value == b"new"
    tier.drop("a")
    tier.drop("never there")
    assert tier.get("a") is None


def test_entries_cannot_be_changed_by_those_they_are_given_to() -> None:
    with pytest.raises(AttributeError):
        entry().value = b"other"  # type: ignore[misc]
