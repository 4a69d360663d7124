"""Whoever is cancelled while it asks Redis is cancelled, at whatever moment that is."""

from __future__ import annotations

import asyncio
import random

from service.store.client import Store
from service.tasks import end

NEVER_S = 3600.0
ROUNDS = 400


async def test_no_cancellation_is_lost_in_the_client(store: Store) -> None:
    """On Python 3.11 redis-py alone loses about one in twenty of these."""
    draw = random.Random(20261123)
    lost = 0
    for _ in range(ROUNDS):

        async def ask() -> None:
            await store.run(store.client.ping)
            await asyncio.sleep(NEVER_S)

        others = [asyncio.create_task(store.run(store.client.ping)) for _ in range(15)]
        asking = asyncio.create_task(ask())
        for _ in range(draw.randrange(1, 40)):
            await asyncio.sleep(0)
        asking.cancel()
        await asyncio.gather(*others)
        _, left = await asyncio.wait({asking}, timeout=0.5)
        lost += len(left)
        await end(asking)
    assert lost == 0
