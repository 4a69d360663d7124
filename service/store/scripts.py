"""A .lua resource as a callable that is sent once, whatever happens.

Sent again is only what provably did not run: after NOSCRIPT, and where a cluster or Sentinel has
another place for it (``routing``). A lost reply proves nothing, so it is the caller's to judge
(StoreUnavailable).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from service.store.line import pack

if TYPE_CHECKING:
    from service.store.client import Store


class Script:
    """One script on one store; ``keys`` is how many it takes, None: any number."""

    def __init__(self, store: Store, name: str, source: str, *, keys: int | None) -> None:
        self._store = store
        self._name = name
        self._source = source
        self._keys = keys
        self._sha = hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()

    @property
    def name(self) -> str:
        return self._name

    @property
    def sha(self) -> str:
        return self._sha

    async def __call__(self, keys: Sequence[str], args: Sequence[str | int | bytes]) -> Any:
        """The script's reply as redis-py decodes it (integers, bytes, lists)."""
        if self._keys is not None and len(keys) != self._keys:
            raise ValueError(f"{self._name}.lua takes {self._keys} keys, not {len(keys)}")
        return await self._store.run(lambda: self.send(keys, args))

    def packed(self, keys: Sequence[str], args: Sequence[str | int | bytes]) -> bytes:
        """The call as bytes for a line, where NOSCRIPT is the caller's to answer."""
        return pack("EVALSHA", self._sha, len(keys), *keys, *args)

    def packed_load(self) -> bytes:
        """The command that makes ``packed`` known to a server."""
        return pack("SCRIPT", "LOAD", self._source)

    async def send(self, keys: Sequence[str], args: Sequence[str | int | bytes]) -> Any:
        """The same inside ``Store.run``, with the client's own errors."""
        return await self._store.evalsha_or_load(self._sha, self._source, keys, args)

    def __repr__(self) -> str:
        return f"<Script {self._name} {self._sha[:8]}>"
