"""A .lua resource as a callable that is sent once, whatever happens.

Only NOSCRIPT is answered by sending again: it proves that nothing ran. A lost reply proves
nothing, so it is the caller's to judge (StoreUnavailable).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from redis.exceptions import NoScriptError

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
        client = self._store.client
        try:
            return await client.evalsha(self._sha, len(keys), *keys, *args)
        except NoScriptError:
            # SCRIPT LOAD, unlike EVAL, keeps the script out of the server's eviction list.
            await client.script_load(self._source)
            return await client.evalsha(self._sha, len(keys), *keys, *args)

    def __repr__(self) -> str:
        return f"<Script {self._name} {self._sha[:8]}>"
