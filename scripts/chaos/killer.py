"""SIGKILL in an order drawn by lot: mostly workers, now and then a replica or a whole server."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
from collections.abc import Sequence

from scripts.chaos.fleet import Fleet
from scripts.chaos.tally import Tally

WORKER, REPLICA, VALKEY, POSTGRES = "worker", "replica", "valkey", "postgres"
#: One of so many kills is a replica's, Valkey's, PostgreSQL's; at least one each.
ONE_IN = {REPLICA: 20, VALKEY: 40, POSTGRES: 40}
#: Between two kills: less than a worker needs to start again, up to enough for some sales.
PAUSE_S = (0.2, 2.2)
#: Until what was killed is started again, if it does not start by itself.
AWAY_S = (0.1, 1.5)


def plan(kills: int, rng: random.Random) -> list[str]:
    """What to kill, in order."""
    rare = [what for what, one_in in ONE_IN.items() for _ in range(max(1, kills // one_in))]
    victims = (rare + [WORKER] * (kills - len(rare)))[:kills]
    rng.shuffle(victims)
    return victims


class Killer:
    def __init__(self, fleet: Fleet, tally: Tally, rng: random.Random) -> None:
        self._fleet = fleet
        self._tally = tally
        self._rng = rng

    async def run(self, victims: Sequence[str]) -> None:
        for victim in victims:
            await asyncio.sleep(self._rng.uniform(*PAUSE_S))
            if victim == WORKER:
                await self._kill_worker()
            elif victim == REPLICA:
                await self._kill_replica()
            else:
                await self._kill_server(victim)
            self._tally.kills[victim] += 1

    async def _kill_worker(self) -> None:
        while True:
            if living := self._fleet.workers():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self._rng.choice(living), signal.SIGKILL)
                    return
            await asyncio.sleep(0.05)  # the master is about to start one

    async def _kill_replica(self) -> None:
        replica = self._rng.choice(self._fleet.replicas)
        await asyncio.to_thread(replica.kill)
        await asyncio.sleep(self._rng.uniform(*AWAY_S))
        await asyncio.to_thread(replica.start)

    async def _kill_server(self, name: str) -> None:
        server = self._fleet.valkey if name == VALKEY else self._fleet.postgres
        await asyncio.to_thread(server.kill)
        await asyncio.sleep(self._rng.uniform(*AWAY_S))
        await asyncio.to_thread(server.start)
