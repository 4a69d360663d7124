"""One Redis node as settlement needs it: which server it is, and how to charge debts there."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any

from service.admission.clock import ScriptClock
from service.admission.denials import Denials
from service.admission.fallback import Debt
from service.errors import StoreUnavailable
from service.store.client import Store
from service.store.line import pack
from service.store.scripts import Script

_SERVER = pack("INFO", "server")
#: Instead of a server's name, for a node whose keys are elsewhere now.
_GONE = b"gone"


class Node:
    """``exchange`` is the node's gate on a line of its own."""

    def __init__(
        self,
        store: Store,
        name: str,
        exchange: Callable[[Sequence[bytes]], Awaitable[list[Any]]],
        settle: Script,
        clock: ScriptClock,
        denials: Denials,
    ) -> None:
        self._store = store
        self._name = name
        self._exchange = exchange
        self._settle = settle
        self._clock = clock
        self._denials = denials

    @property
    def gone(self) -> bool:
        """Has a cluster given its keys to others?"""
        return self._store.clustered and self._name not in self._store.nodes()

    async def server(self) -> bytes | None:
        """Which start of which server answers here; empty if it does not say; None: no answer."""
        if self._store.follows:
            # Whom one asks for the way may be away where the node itself is not.
            with suppress(StoreUnavailable):
                await self._store.look_again()
            if self.gone:
                return _GONE
        (reply,) = await self._exchange([_SERVER])
        if reply is None:
            return None
        match = re.search(rb"run_id:(\w+)", reply) if isinstance(reply, bytes) else None
        return match[1] if match else b""

    def known(self) -> list[Debt]:
        """Nothing owed, but known: the buckets here that are not full yet."""
        return [
            Debt(key, 0, 0)
            for key in self._denials.not_full()
            if self._store.node_of(key) == self._name
        ]

    async def charge(self, debts: Sequence[Debt]) -> bool:
        """False where not all of it was certainly done."""
        now_us = await self._clock.now_us(self._exchange)
        if now_us is None:
            return False
        calls = [([debt.key], self._args(debt, now_us)) for debt in debts]
        if self._store.clustered:
            # Slots may have moved meanwhile: each by itself, through the client that finds them.
            try:
                await asyncio.gather(*(self._settle(keys, args) for keys, args in calls))
            except StoreUnavailable:
                return False
            return True
        load = self._settle.packed_load()
        _, *replies = await self._exchange([load, *(self._settle.packed(*call) for call in calls)])
        if not now_us and any(self._clock.refused(reply) for reply in replies):
            return await self.charge(debts)
        return all(isinstance(reply, int) for reply in replies)

    def _args(self, debt: Debt, now_us: int) -> list[int]:
        # An arrival time is recalled or added to, never both: a debt may be sent again.
        ahead_us = 0 if debt.owed_us else self._denials.ahead_us(debt.key)
        return [now_us, ahead_us, debt.owed_us, debt.capacity_us]
