"""One worker of a fleet, reduced to its limiter: offers a steady load, writes down what it got.

Argument: a JSON Order. First line: ``ready``; the load begins when standard input ends, and stops
after the time ordered or with SIGTERM. Each
admission is one line, written at once, so that it outlives SIGKILL: name of the limit, instants of
asking and of the answer (monotonic, µs), server time of the decision (µs; 0: decided without
Redis). Last line of an orderly end: ``offered n``.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from service.admission.limiter import Limiter
from service.admission.models import Charge, Decision, Policy, Subject
from service.logs import configure_logging
from service.settings import LoggingSettings, RedisSettings
from service.store.client import Store
from tests.e2e.wrong_limiters import FixedWindowLimiter, OwnClockLimiter
from tests.support.broken.racing_limiter import RacingLimiter

TICK_S = 0.005
#: A fleet would shed the rest; here it only keeps a stall from filling the memory.
MOST_IN_FLIGHT = 200


@dataclass(frozen=True, slots=True)
class Order:
    """``limits``: [tokens, period_s, burst] by name; ``per_second``: by name, what is offered."""

    redis_url: str
    variant: str
    limits: dict[str, tuple[int, int, int]]
    per_second: dict[str, float]
    run_s: float
    workers: int
    timeout_s: float


class Taking(Protocol):
    async def take(self, charges: Sequence[Charge]) -> Decision: ...


class Worker:
    def __init__(self, order: Order, limiter: Taking) -> None:
        self._order = order
        self._limiter = limiter
        self._known = limiter.deny_locally if isinstance(limiter, Limiter) else _nothing
        self._offered = 0
        self._stopped = False

    async def run(self) -> int:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self._stop)
        async with asyncio.TaskGroup() as group:
            for name, (tokens, period_s, burst) in self._order.limits.items():
                charges = (Charge(Policy(name, tokens, period_s, burst), Subject("client", "all")),)
                group.create_task(self._offer(name, charges, self._order.per_second[name]))
        return self._offered

    async def _offer(self, name: str, charges: tuple[Charge, ...], per_second: float) -> None:
        began_s, count = time.monotonic(), 0
        in_flight: set[asyncio.Task[None]] = set()
        while (passed_s := time.monotonic() - began_s) < self._order.run_s and not self._stopped:
            due = int(passed_s * per_second) + 1 - count
            count += due
            for _ in range(min(due, MOST_IN_FLIGHT - len(in_flight))):
                self._offered += 1
                task = asyncio.create_task(self._take(name, charges))
                in_flight.add(task)
                task.add_done_callback(in_flight.discard)
            await asyncio.sleep(TICK_S)
        await asyncio.gather(*in_flight)

    def _stop(self) -> None:
        self._stopped = True

    async def _take(self, name: str, charges: tuple[Charge, ...]) -> None:
        asked_us = time.monotonic_ns() // 1000
        decision = self._known(charges) or await self._limiter.take(charges)
        if decision.allowed:
            told_us = time.monotonic_ns() // 1000
            os.write(1, f"{name} {asked_us} {told_us} {decision.decided_at_us}\n".encode())


async def main(order: Order) -> None:
    configure_logging(LoggingSettings(level="error"))
    store = Store(RedisSettings(timeout=order.timeout_s), url=order.redis_url)
    await store.open()
    os.write(1, b"ready\n")
    await asyncio.to_thread(os.read, 0, 1)
    if order.variant == "exact":
        limiter = Limiter(store, workers_hint=order.workers)
        await limiter.start()
        offered = await Worker(order, limiter).run()
        await limiter.stop()
    else:
        offered = await Worker(order, _wrong(order.variant, store)).run()
    await store.close()
    os.write(1, f"offered {offered}\n".encode())


def _nothing(_charges: Sequence[Charge]) -> None:
    """What limiters know that ask Redis each time."""


def _wrong(variant: str, store: Store) -> Taking:
    if variant == "racing":
        return RacingLimiter(store)
    if variant == "fixed":
        return FixedWindowLimiter(store)
    return OwnClockLimiter(store)


if __name__ == "__main__":
    asyncio.run(main(Order(**json.loads(sys.argv[1]))))
