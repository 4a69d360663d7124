"""A limiter that reads the bucket, decides in Python and writes it back: two round trips."""

from __future__ import annotations

from collections.abc import Sequence

from service.admission.models import Charge, Decision, limit_state
from service.store import keys
from service.store.client import Store


class RacingLimiter:
    """Right on its own, wrong as soon as two of them share a bucket."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def take(self, charges: Sequence[Charge]) -> Decision:
        (charge,) = charges
        client = self._store.client
        key = keys.bucket(charge.policy.name, str(charge.subject), shadow=False)
        seconds, micros = await client.time()
        now_us = seconds * 1_000_000 + micros
        stored = await client.get(key)
        taken = charge.policy.bucket.take(int(stored) if stored else None, now_us, charge.cost)
        if taken.fits:
            await client.set(key, taken.tat_us)
        state = limit_state(charge, charge.policy.bucket, taken.tat_us, now_us, fits=taken.fits)
        return Decision(allowed=taken.fits, states=(state,), decided_at_us=now_us)
