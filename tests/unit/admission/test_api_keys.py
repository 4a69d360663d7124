from __future__ import annotations

import pytest

from service.admission.api_keys import LONGEST_KEY, KeyHash, KeyRing, new_key

SECRET = "a-secret-of-the-fleet"


def ring(*keys: str, secret: str = SECRET) -> KeyRing:
    key_hash = KeyHash(secret)
    return KeyRing(key_hash, {key_hash.digest(key): f"key-{i}" for i, key in enumerate(keys)})


def test_keys_are_random_recognisable_and_short_enough() -> None:
    made = {new_key() for _ in range(100)}
    assert len(made) == 100
    assert all(key.startswith("tgk_") and 40 < len(key) < LONGEST_KEY for key in made)


def test_a_key_is_known_by_its_digest_under_the_secret_alone() -> None:
    key = new_key()
    assert ring(key).name_of(key) == "key-0"
    assert ring(key, secret="another").name_of(new_key()) is None
    assert KeyHash(SECRET).digest(key) != KeyHash("another").digest(key)


@pytest.mark.parametrize("shown", ["", "tgk_", "\udcff\x00", "x" * LONGEST_KEY, "x" * 100_000])
def test_whatever_else_is_shown_is_no_key(shown: str) -> None:
    assert ring(new_key()).name_of(shown) is None


def test_too_long_a_key_is_not_even_hashed() -> None:
    long = "x" * (LONGEST_KEY + 1)
    assert ring(long).name_of(long) is None


def test_written_form_shows_neither_key_nor_secret() -> None:
    key = new_key()
    written = KeyHash(SECRET).written(key)
    fingerprint, _, digest = written.partition(".")
    assert (len(fingerprint), bytes.fromhex(digest)) == (8, KeyHash(SECRET).digest(key))
    assert key not in written + repr(ring(key))
    assert KeyHash(SECRET).written(key).split(".")[0] == fingerprint
    assert KeyHash("another").fingerprint != fingerprint


def test_secrets_of_any_length_are_told_apart() -> None:
    """The hash itself takes no more than 64 bytes of one."""
    long = "s" * 64
    assert KeyHash(long).digest("k") != KeyHash(long + "t").digest("k")


def test_an_empty_ring_knows_nobody() -> None:
    assert not KeyRing()
    assert KeyRing().name_of("") is None
    assert ring("a", "b").names() == ["key-0", "key-1"]
