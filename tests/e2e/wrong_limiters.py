"""Limiters with the usual faults, to see that the window check finds them."""

from __future__ import annotations

import time
from collections.abc import Sequence

from service.admission.models import Charge, Decision
from service.store.client import Store


class FixedWindowLimiter:
    """Counts per whole period of the server's clock: twice the limit across an edge."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def take(self, charges: Sequence[Charge]) -> Decision:
        (charge,) = charges
        policy, client = charge.policy, self._store.client
        seconds, micros = await client.time()
        per_window = policy.burst + policy.tokens
        count = await client.incr(f"fixed:{policy.name}:{seconds // policy.period_s}")
        return Decision(
            allowed=count <= per_window,
            states=(),
            decided_at_us=seconds * 1_000_000 + micros,
        )


class OwnClockLimiter:
    """The script is atomic, but the time in it is each worker's own."""

    _SCRIPT = """
        local tat = tonumber(redis.call('GET', KEYS[1]) or '0')
        local now, interval, burst = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
        if tat < now then tat = now end
        tat = tat + interval
        if tat - burst * interval > now then return 0 end
        redis.call('SET', KEYS[1], string.format('%.0f', tat))
        return 1
    """

    def __init__(self, store: Store) -> None:
        self._take = store.client.register_script(self._SCRIPT)
        self._store = store

    async def take(self, charges: Sequence[Charge]) -> Decision:
        (charge,) = charges
        policy = charge.policy
        allowed = await self._take(
            [f"own:{policy.name}"],
            [int(time.time() * 1_000_000), policy.emission_interval_us, policy.burst],
        )
        seconds, micros = await self._store.client.time()
        return Decision(
            allowed=bool(allowed), states=(), decided_at_us=seconds * 1_000_000 + micros
        )
