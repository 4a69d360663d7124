"""The tier all workers share, in Redis: values with their age, leases and fences, by four scripts.

A fence stands beside each value while it is loaded: its version ends with the next invalidation, so
that no load begun before is stored after. What a lost Redis takes with it is only ever loaded anew.
"""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Literal

from service.cache.loading import LOAD_LIMIT_S
from service.cache.models import FleetStatistics
from service.cache.owed import Owed
from service.errors import DeadlineExceeded, StoreUnavailable
from service.store import keys

if TYPE_CHECKING:
    from service.store.client import Store

#: A holder that died must be replaced while the others still wait.
_LEASE_OF_WAIT = 0.7
#: Reads at once. A crowd that waits here, and not for one of the store's connections, is not taken
#: for an outage of Redis.
_READS_AT_ONCE = 8
#: Looks for another worker's load: most take milliseconds, few much longer.
_FIRST_LOOK_S, _LOOK_GROWS, _LAST_LOOK_S = 0.01, 1.5, 0.05


@dataclass(frozen=True, slots=True)
class Ticket:
    """What a load was begun under; its result is stored only if that still holds."""

    version: int
    #: Server time, µs.
    begun_us: int
    token: str


@dataclass(frozen=True, slots=True)
class Found:
    """``mine``: this worker is to load the value, under ``ticket``; ``failed``: others could not.

    ``left_s``: of its fresh age. ``stamp`` names the load the value is from. ``read_at_s``: when
    Redis was asked, on this worker's clock.
    """

    state: Literal["fresh", "stale", "miss"]
    value: bytes | None
    age_s: float
    left_s: float
    stamp: int
    failed: bool
    mine: bool
    ticket: Ticket
    read_at_s: float


@dataclass(frozen=True, slots=True)
class Held:
    """A value the caller has already, so that it need not be sent again."""

    value: bytes | None
    stamp: int


class FleetTier:
    """``wait_s``: how long a value that another worker loads is waited for.

    What this worker could not tell Redis of yet, it tells before it reads.
    """

    def __init__(
        self, store: Store, *, namespace: str, wait_s: float, clock: Callable[[], float]
    ) -> None:
        self._namespace = namespace
        self._clock = clock
        self._lease_ms = _ms(wait_s * _LEASE_OF_WAIT)
        self._get = store.script(__package__, "get", keys=2)
        self._put = store.script(__package__, "put", keys=2)
        self._release = store.script(__package__, "release", keys=1)
        self._invalidate = store.script(__package__, "invalidate", keys=2)
        self._worker = secrets.token_hex(6)
        self._asked = count()
        self._owed = Owed(self._tell, name=namespace)
        self._turns = asyncio.Semaphore(_READS_AT_ONCE)
        self._hits = self._stale = self._misses = self._errors = self._waits = 0

    async def close(self) -> None:
        await self._owed.close()

    @property
    def owed(self) -> int:
        return len(self._owed)

    @property
    def waits(self) -> int:
        """How many misses waited for another worker's load."""
        return self._waits

    def statistics(self) -> FleetStatistics:
        return FleetStatistics(self._hits, self._stale, self._misses, self._errors)

    async def find(self, key: str, held: Callable[[], Held | None], *, until_s: float) -> Found:
        """A miss only if this worker is to load it, or has waited ``until_s`` in vain.

        ``held``: what it has at the moment. Raises StoreUnavailable.
        """
        try:
            found = await self._found(key, held, until_s)
        except StoreUnavailable:
            self._errors += 1
            raise
        self._hits += found.state == "fresh"
        self._stale += found.state == "stale"
        self._misses += found.state == "miss"
        return found

    async def _found(self, key: str, held: Callable[[], Held | None], until_s: float) -> Found:
        token, look_s, waited = f"{self._worker}-{next(self._asked)}", _FIRST_LOOK_S, False
        while True:
            await self._owed.settle(key)
            async with self._turns:
                found = await self._read(key, token, held())
            if found.state != "miss" or found.mine or self._clock() >= until_s:
                return found
            self._waits += not waited
            waited = True
            await asyncio.sleep(look_s * random.uniform(0.5, 1.5))  # noqa: S311
            look_s = min(look_s * _LOOK_GROWS, _LAST_LOOK_S)

    async def _read(self, key: str, token: str, held: Held | None) -> Found:
        stamp, read_at_s = held.stamp if held else 0, self._clock()
        reply = await self._get(
            self._names(key),
            (keys.CACHE_FENCE_LIFE_MS, token, self._lease_ms, _ms(LOAD_LIMIT_S), stamp),
        )
        state, leased, version, now, age_ms, left_ms, failed, loaded_at, unknown, value = reply
        if unknown:
            value = None
        elif value is None and held:
            value = held.value
        return Found(
            state=state.decode(),
            value=value,
            age_s=age_ms / 1000,
            left_s=left_ms / 1000,
            stamp=loaded_at,
            failed=bool(failed),
            mine=bool(leased),
            ticket=Ticket(version, now, token),
            read_at_s=read_at_s,
        )

    async def store(
        self, key: str, value: bytes | None, ticket: Ticket, *, fresh_s: float, life_s: float
    ) -> bool:
        """False if it was invalidated, or loaded anew, since the ticket was given.

        Raises StoreUnavailable.
        """
        args = (ticket.version, ticket.begun_us, value or b"", int(value is None),
                _ms(fresh_s), _ms(max(fresh_s, life_s)))  # fmt: skip
        return bool(await self._put(self._names(key), args))

    async def release(self, key: str, ticket: Ticket, *, rest_s: float = 0.0) -> None:
        """There is nothing to store. ``rest_s``: nobody else need try so soon."""
        rest_ms = _ms(rest_s) if rest_s else 0
        # Not told, the lease ends by itself.
        with suppress(StoreUnavailable, DeadlineExceeded):
            await self._release(
                [keys.cache_fence(self._namespace, key)],
                (ticket.token, rest_ms, keys.CACHE_FENCE_LIFE_MS),
            )

    async def invalidate(self, keys_: Iterable[str], change: str) -> None:
        """Forget them, once for each ``change``; at once, or as soon as Redis can be told."""
        await self._owed.tell(keys_, change)

    async def _tell(self, key: str, change: str) -> None:
        channel = keys.cache_channel(self._namespace)
        args = (keys.CACHE_FENCE_LIFE_MS, channel, key, change.replace("\n", " "))
        await self._invalidate(self._names(key), args)

    def _names(self, key: str) -> tuple[str, str]:
        return keys.cache_value(self._namespace, key), keys.cache_fence(self._namespace, key)


def _ms(seconds: float) -> int:
    return max(1, round(seconds * 1000))
