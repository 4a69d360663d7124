"""The tier all workers share, in Redis: values with their age, leases and fences, by four scripts.

A fence stands beside each value while it is loaded: its version ends with the next invalidation, so
that no load begun before is stored after. What a lost Redis takes with it is only ever loaded anew.
"""

from __future__ import annotations

import secrets
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Literal

from service.errors import DeadlineExceeded, StoreUnavailable
from service.store import keys

if TYPE_CHECKING:
    from service.store.client import Store

#: Half the life of a fence: that of a load is always there when the load ends.
LOAD_LIMIT_S = keys.CACHE_FENCE_LIFE_MS / 1000 / 2
#: After a failed refresh the fleet lets the database rest, one key at a time.
REST_S = 2.0


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

    ``left_s``: of its fresh age. ``stamp`` names the load the value is from.
    """

    state: Literal["fresh", "stale", "miss"]
    value: bytes | None
    age_s: float
    left_s: float
    stamp: int
    failed: bool
    mine: bool
    ticket: Ticket


@dataclass(frozen=True, slots=True)
class Held:
    """A value the caller has already, so that it need not be sent again."""

    value: bytes | None
    stamp: int


class FleetTier:
    """Every method but ``release`` raises StoreUnavailable."""

    def __init__(self, store: Store, *, namespace: str, lease_s: float) -> None:
        self._namespace = namespace
        self._lease_ms = _ms(lease_s)
        self._get = store.script(__package__, "get", keys=2)
        self._put = store.script(__package__, "put", keys=2)
        self._release = store.script(__package__, "release", keys=1)
        self._invalidate = store.script(__package__, "invalidate", keys=2)
        self._worker = secrets.token_hex(6)
        self._asked = count()

    def token(self) -> str:
        """For one load: whoever waits for it asks with the same one again."""
        return f"{self._worker}-{next(self._asked)}"

    async def read(self, key: str, token: str, held: Held | None) -> Found:
        stamp = held.stamp if held else 0
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
        )

    async def store(
        self, key: str, value: bytes | None, ticket: Ticket, *, fresh_s: float, life_s: float
    ) -> bool:
        """False if it was invalidated, or loaded anew, since the ticket was given."""
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

    async def invalidate(self, key: str, change: str) -> None:
        channel = keys.cache_channel(self._namespace)
        args = (keys.CACHE_FENCE_LIFE_MS, channel, key, change.replace("\n", " "))
        await self._invalidate(self._names(key), args)

    def _names(self, key: str) -> tuple[str, str]:
        return keys.cache_value(self._namespace, key), keys.cache_fence(self._namespace, key)


def _ms(seconds: float) -> int:
    return max(1, round(seconds * 1000))
