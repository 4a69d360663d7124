"""Who is refused most is found in bounded memory, and fades when it stops."""

from __future__ import annotations

import random

import pytest

from service.fleet.heavy import HALF_LIFE_S, HeavyHitters, denied
from service.fleet.pseudonym import Pseudonyms


def test_steady_refusals_stand_at_their_rate_in_a_minute() -> None:
    hitters = HeavyHitters()
    for _ in range(300):
        hitters.add({"ip:192.0.2.1": 20, "ip:192.0.2.2": 2}, after_s=2.0)
    (first, fast), (second, slow) = hitters.top(5)
    assert (first, second) == ("ip:192.0.2.1", "ip:192.0.2.2")
    assert fast == pytest.approx(600, rel=0.05)
    assert slow == pytest.approx(60, rel=0.05)


def test_what_was_refused_long_ago_is_forgotten() -> None:
    hitters = HeavyHitters()
    hitters.add({"ip:192.0.2.1": 100}, after_s=2.0)
    hitters.add({}, after_s=HALF_LIFE_S)
    [(_, after_one)] = hitters.top(5)
    hitters.add({}, after_s=HALF_LIFE_S)
    [(_, after_two)] = hitters.top(5)
    assert after_two == pytest.approx(after_one / 2)
    hitters.add({}, after_s=20 * HALF_LIFE_S)
    assert len(hitters) == 0


def test_a_flood_of_names_neither_fills_memory_nor_hides_who_is_refused_most() -> None:
    hitters, numbers = HeavyHitters(most=64), random.Random(6)
    for _ in range(50):
        flood = {f"ip:{numbers.getrandbits(32):x}": 1 for _ in range(2000)}
        hitters.add({**flood, "ip:192.0.2.1": 30, "ip:192.0.2.2": 10}, after_s=2.0)
        assert len(hitters) <= 64
    assert [name for name, _ in hitters.top(2)] == ["ip:192.0.2.1", "ip:192.0.2.2"]


def test_no_number_is_larger_than_what_was_refused() -> None:
    hitters, numbers = HeavyHitters(most=8), random.Random(7)
    refused: dict[str, int] = {}
    for _ in range(100):
        batch = {f"k{numbers.randrange(40)}": numbers.randrange(1, 9) for _ in range(6)}
        for name, number in batch.items():
            refused[name] = refused.get(name, 0) + number
        hitters.add(batch, after_s=0.0)
    at_once = 60 / (HALF_LIFE_S / 0.6931471805599453)
    for name, per_minute in hitters.top(8):
        assert per_minute <= refused[name] * at_once * 1.0001


def test_names_are_taken_off_and_kinds_are_told() -> None:
    hitters = HeavyHitters()
    names = ("ip:192.0.2.1", "ip:2001:db8::/64", "key:acme", "key:unknown", "peer:unknown")
    hitters.add({name: 10 - i for i, name in enumerate(names)}, after_s=1.0)
    shown = denied(hitters, Pseudonyms(b"secret"), 10)
    kinds = ["address", "network", "key", "unknown-key", "other"]
    assert [one.kind for one in shown] == kinds
    assert not any(part in str(shown) for part in ("192.0", "2001", "acme"))


def test_hashes_are_the_same_under_the_same_secret_only() -> None:
    one, same, other = Pseudonyms(b"a" * 100), Pseudonyms(b"a" * 100), Pseudonyms(b"b")
    assert one.of("ip:192.0.2.1") == same.of("ip:192.0.2.1")
    assert one.of("ip:192.0.2.1") != other.of("ip:192.0.2.1")
    assert one.of("ip:192.0.2.1") != one.of("ip:192.0.2.2")
