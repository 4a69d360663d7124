"""API keys: made here, given out once, and from then on known only by their keyed hash.

A presented key is hashed and its digest looked up: no comparison depends on what the key is, and
who reads the configuration, Redis or this process's caches finds no key.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping

#: Lets people and secret scanners see what it is.
PREFIX = "tgk_"
#: A key of ours has 47 characters; what is longer than any sensible one is not even hashed.
LONGEST_KEY = 256
_DIGEST_BYTES = 32
_FINGERPRINT_BYTES = 4


def new_key() -> str:
    """A fresh random key, 256 bits."""
    return PREFIX + secrets.token_urlsafe(32)


class KeyHash:
    """The hash of keys under a secret (``TOLLGATE_ADMIN__KEY_SECRET``)."""

    __slots__ = ("_empty", "fingerprint")

    def __init__(self, secret: str) -> None:
        # Of any length, so brought to the length the hash takes as its key.
        key = hashlib.blake2b(secret.encode(), digest_size=_DIGEST_BYTES).digest()
        self._empty = hashlib.blake2b(key=key, digest_size=_DIGEST_BYTES)
        #: Tells secrets apart, so that hashes made under another one are noticed at once.
        self.fingerprint = hashlib.blake2b(
            b"fingerprint", key=key, digest_size=_FINGERPRINT_BYTES
        ).hexdigest()

    def digest(self, key: str) -> bytes:
        hashed = self._empty.copy()
        hashed.update(key.encode("utf-8", "surrogatepass"))
        return hashed.digest()

    def written(self, key: str) -> str:
        """As ``hash`` in limits.toml: the secret's fingerprint and the key's digest."""
        return f"{self.fingerprint}.{self.digest(key).hex()}"


class KeyRing:
    """The keys of a rulebook: names by digest; empty, it knows no key at all."""

    __slots__ = ("_hash", "_names")

    def __init__(
        self, key_hash: KeyHash | None = None, names: Mapping[bytes, str] | None = None
    ) -> None:
        self._hash = key_hash
        self._names = dict(names or {})

    def name_of(self, key: str) -> str | None:
        """The name of a presented key; None for one that is not known."""
        if self._hash is None or len(key) > LONGEST_KEY:
            return None
        return self._names.get(self._hash.digest(key))

    def names(self) -> list[str]:
        """Of all keys that are known."""
        return sorted(self._names.values())

    def __bool__(self) -> bool:
        return bool(self._names)

    def __repr__(self) -> str:
        return f"<KeyRing {len(self._names)} keys>"
