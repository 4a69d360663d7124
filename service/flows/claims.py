"""Work that one worker of the fleet does for all, once, and another takes up if it dies."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from service.errors import StoreUnavailable
from service.flows.cached import NAMESPACE
from service.store import keys
from service.store.client import Store

_AT_IT = b"at it"
_DONE = b"done"


class Claims:
    """By the names of changes. Done twice does no harm; left undone does."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def do(self, name: str, work: Callable[[], Awaitable[None]]) -> bool:
        """True once it has been done, here or by another worker; False while another is at it.

        While Redis is away, every worker is its own fleet.
        """
        claim = keys.cache_claim(NAMESPACE, name)
        try:
            held = await self._claim(claim)
        except StoreUnavailable:
            held = None
        if held is None:
            await work()
            await self._note_done(claim)
            return True
        return bool(held == _DONE)

    async def _claim(self, claim: str) -> Any:
        """What another worker has said of it; None: it is ours now."""
        client = self._store.client
        taken: Any = await self._store.run(
            lambda: client.set(claim, _AT_IT, nx=True, px=keys.CACHE_CLAIM_LIFE_MS)
        )
        # One that ends between the two is another's to take: the next look tells.
        return None if taken else await self._store.run(lambda: client.get(claim)) or _AT_IT

    async def _note_done(self, claim: str) -> None:
        try:
            await self._store.run(
                lambda: self._store.client.set(claim, _DONE, px=keys.CACHE_CLAIM_LIFE_MS)
            )
        except StoreUnavailable:
            return  # another one does it again
