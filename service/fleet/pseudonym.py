"""A principal as it may be shown: its kind and a hash by which it can be found, not read.

An IPv4 address is one of four thousand million, so a plain hash would be read by trying them all.
"""

from __future__ import annotations

import hashlib

#: Enough to tell a fleet's clients apart, too little to be a fingerprint elsewhere.
_HASH_BYTES = 6


class Pseudonyms:
    """``secret``: the same in all workers of a fleet, or their numbers could not be added up."""

    def __init__(self, secret: bytes) -> None:
        key = hashlib.blake2b(secret, digest_size=32, person=b"tollgate-denied").digest()
        self._empty = hashlib.blake2b(key=key, digest_size=_HASH_BYTES)

    def of(self, principal: str) -> tuple[str, str]:
        """Kind and hash."""
        hashed = self._empty.copy()
        hashed.update(principal.encode("utf-8", "surrogatepass"))
        return kind_of(principal), hashed.hexdigest()


def kind_of(principal: str) -> str:
    scheme, _, rest = principal.partition(":")
    if scheme == "ip":
        return "network" if ":" in rest else "address"
    if scheme == "key":
        return "unknown-key" if rest == "unknown" else "key"
    return "other"
