from __future__ import annotations

import pytest

from service.cache.local import Entry, LocalTier
from service.cache.models import Cached


def entry(value: bytes | None = b"v", *, good_until_s: float = 5.0) -> Entry:
    return Entry(Cached(value, loaded_at_s=0.0), good_until_s=good_until_s)


def local_tier(*, entries: int = 2, bytes_: int = 100_000, unknowns: int = 3) -> LocalTier:
    return LocalTier(entries=entries, bytes_=bytes_, unknowns=unknowns)


def test_holds_no_more_than_its_bound_and_drops_the_least_recently_used() -> None:
    tier = local_tier()
    tier.put("a", entry())
    tier.put("b", entry())
    assert tier.get("a") is not None
    tier.put("c", entry())
    assert len(tier) == 2
    assert tier.get("b") is None
    assert tier.get("a") is not None


def test_a_newer_value_takes_the_place_of_the_old_one() -> None:
    tier = local_tier()
    tier.put("a", entry(b"old"))
    tier.put("a", entry(b"new"))
    kept = tier.get("a")
    assert len(tier) == 1
    assert kept is not None
    assert kept.cached.value == b"new"
    tier.drop("a")
    tier.drop("never there")
    assert tier.get("a") is None


def test_entries_cannot_be_changed_by_those_they_are_given_to() -> None:
    with pytest.raises(AttributeError):
        entry().cached.value = b"other"  # type: ignore[misc]


def test_holds_no_more_bytes_than_its_bound() -> None:
    tier = local_tier(entries=1000, bytes_=10_000)
    for number in range(50):
        tier.put(f"k{number}", entry(bytes(1500)))
        assert tier.bytes <= 10_000
    assert len(tier) == 5
    tier.put("larger than the tier", entry(bytes(20_000)))
    assert tier.get("larger than the tier") is None
    assert len(tier) == 5
    for number in range(50):
        tier.drop(f"k{number}")
    assert (len(tier), tier.bytes) == (0, 0)


def test_bytes_are_counted_as_they_are_held() -> None:
    tier = local_tier(entries=3)
    for number in range(20):
        tier.put(f"k{number % 7}", entry(bytes(100 * number)))
        tier.put(f"u{number % 5}", entry(None))
        tier.drop(f"k{number % 3}")
    fresh = local_tier(entries=3)
    for key in [*tier._values, *tier._unknowns]:
        kept = tier.get(key)
        assert kept is not None
        fresh.put(key, kept)
    assert tier.bytes == fresh.bytes > 0
    tier.doubt()
    for key in list(tier._values):
        tier.drop(key)
    assert tier.bytes == 0


def test_unknown_names_push_out_each_other_and_nothing_else() -> None:
    tier = local_tier()
    tier.put("flow", entry())
    assert not tier.crowded(0.0)
    for number in range(1000):
        tier.put(f"u{number}", entry(None))
    assert tier.get("flow") is not None
    assert (len(tier), tier.unknowns) == (1, 3)
    assert tier.get("u999") is not None
    assert tier.get("u996") is None
    assert tier.crowded(4.9)
    assert not tier.crowded(5.0)  # those remembered have had their time


def test_a_name_is_known_or_unknown_but_not_both() -> None:
    tier = local_tier()
    tier.put("k", entry(None))
    tier.put("k", entry(b"born"))
    assert (len(tier), tier.unknowns) == (1, 0)
    tier.put("k", entry(None))
    assert (len(tier), tier.unknowns) == (0, 1)


def test_in_doubt_nothing_is_good_any_more_and_values_stay_for_need() -> None:
    tier = local_tier()
    tier.put("flow", entry())
    tier.put("unknown", entry(None))
    tier.doubt()
    kept = tier.get("flow")
    assert kept is not None
    assert (kept.cached.value, kept.good_until_s) == (b"v", 0.0)
    assert tier.get("unknown") is None
