"""What a fleet did and used during a run, looked at once a second from outside.

What can not be seen (another machine's processes, a Redis nobody named) is left out. Looking costs
some 7 ms a second here, which is counted nowhere, and a metrics page of each replica every two
seconds, which its workers make: what that takes is measured first and subtracted.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import aiohttp

from scripts import running
from scripts.fleet import control
from scripts.load.record import Costs, Event, Sample
from scripts.load.watching.changes import Changes
from scripts.load.watching.info import Server
from scripts.load.watching.pages import Fleet, read_page
from scripts.load.watching.parts import PARTS, Parts

INTERVAL_S: Final = 1.0
PAGES_INTERVAL_S: Final = 2.0
_PAGE_TIMEOUT_S: Final = 4.0
#: So many are asked for in a row to learn what one costs: the kernel counts in ticks of 10 ms.
_TRIED_ROUNDS: Final = 10


@dataclass(frozen=True, slots=True)
class Observed:
    """What there is to look at; nothing at all is possible too."""

    #: The program that started the fleet and what it stands on: all parts are below it.
    pid: int | None = None
    redis_url: str | None = None
    internal_urls: tuple[str, ...] = ()


def found(data: Path = running.RUN) -> Observed:
    """What ``make fleet`` or ``make run`` has up, by its note in ``data``."""
    service = running.read(data)
    if service is None:
        return Observed()
    fleet = control.read(data)
    replicas = [one["internal_url"] for one in fleet.replicas] if fleet else [service.internal_url]
    return Observed(service.pid, service.redis_url, tuple(replicas))


@dataclass(frozen=True, slots=True)
class Observation:
    """All of a run; ``used_memory`` is Redis's at the beginning and at the end."""

    samples: list[Sample] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    used_memory: tuple[int, int] | None = None

    def costs(self, answered: int) -> Costs:
        """Of one request, on the average of the whole run."""
        if not self.samples or answered < 1:
            return Costs(cpu_us={}, redis_commands=None, redis_bytes=None, queries=None)
        last = self.samples[-1]
        return Costs(
            cpu_us={part: used_s / answered * 1e6 for part, used_s in last.cpu_s.items()},
            redis_commands=last.redis_commands / answered if self.used_memory else None,
            redis_bytes=last.redis_bytes / answered if self.used_memory else None,
            queries=last.queries / answered if last.pool_size else None,
        )


class Observer:
    """``start``, then the run, then ``stop``; times count from the end of ``start``."""

    def __init__(self, targets: Observed) -> None:
        self._targets = targets
        self._parts = Parts(targets.pid) if targets.pid else None
        self._fleet = Fleet()
        self._stack = AsyncExitStack()
        self._tasks: list[asyncio.Task[None]] = []
        self._samples: list[Sample] = []
        self._events: list[Event] = []

    async def start(self) -> None:
        try:
            await self._begin()
        except BaseException:  # stopped by now: nobody comes to stop it again
            await self._stack.aclose()
            raise

    async def stop(self) -> Observation:
        async with self._stack:
            return await self._end()

    async def _begin(self) -> None:
        timeout = aiohttp.ClientTimeout(total=_PAGE_TIMEOUT_S)
        self._session = await self._stack.enter_async_context(
            aiohttp.ClientSession(timeout=timeout)
        )
        self._redis = Server(self._targets.redis_url) if self._targets.redis_url else None
        if self._redis:
            self._stack.push_async_callback(self._redis.close)
        self._page_cpu_s = await self._price_of_pages()
        await self._ask_all()
        self._shown, self._rounds = self._fleet.now, 0
        self._changes = Changes(self._shown)
        self._first = self._last = await self._redis.look() if self._redis else None
        self._cpu_before = await self._cpu_s()
        self._began_s = time.monotonic()
        for work, interval_s in ((self._sample, INTERVAL_S), (self._look, PAGES_INTERVAL_S)):
            self._tasks.append(asyncio.create_task(_each(interval_s, work)))

    async def _end(self) -> Observation:
        for task in self._tasks:
            task.cancel()
        for result in await asyncio.gather(*self._tasks, return_exceptions=True):
            if isinstance(result, Exception):
                raise result
        # Workers hand their counts over once a second.
        await asyncio.sleep(INTERVAL_S)
        await self._look()
        await self._sample()
        if self._first is None or self._last is None:
            return Observation(self._samples, self._events)
        memory = (self._first.used_memory, self._last.used_memory)
        return Observation(self._samples, self._events, memory)

    async def _sample(self) -> None:
        told = await self._redis.look() if self._redis else None
        self._last = told or self._last
        cpu_s = await self._cpu_s()
        page = self._shown
        first, last = self._first, self._last
        self._samples.append(
            Sample(
                at=time.monotonic() - self._began_s,
                cpu_s={part: used_s - self._cpu_before[part] for part, used_s in cpu_s.items()},
                redis_commands=last.commands - first.commands if first and last else 0,
                redis_bytes=last.bytes - first.bytes if first and last else 0,
                queries=page.queries,
                pool_in_use=page.pool_in_use,
                pool_size=page.pool_size,
                in_flight=page.in_flight,
                shed=page.shed,
                denied_locally=page.denied_locally,
                breaker=page.breaker_word if self._targets.internal_urls else "",
            )
        )

    async def _cpu_s(self) -> dict[str, float]:
        """By part, our own questions to the workers left out."""
        if self._parts is None:
            return {}
        used_s = {**dict.fromkeys(PARTS, 0.0), **await asyncio.to_thread(self._parts.look)}
        used_s["workers"] -= self._rounds * self._page_cpu_s
        return used_s

    async def _look(self) -> None:
        await self._ask_all()
        self._shown = self._fleet.now
        self._events += self._changes.seen(self._shown, time.monotonic() - self._began_s)

    async def _ask_all(self) -> None:
        await asyncio.gather(*map(self._ask, self._targets.internal_urls))
        self._rounds += 1

    async def _ask(self, replica: str) -> None:
        try:
            async with self._session.get(f"{replica}/metrics") as answer:
                answer.raise_for_status()
                self._fleet.take(replica, read_page(await answer.text()))
        except (aiohttp.ClientError, OSError, TimeoutError):
            self._fleet.lose(replica)

    async def _price_of_pages(self) -> float:
        """Processor time of the workers for a page of each replica."""
        self._rounds, self._page_cpu_s = 0, 0.0
        await self._ask_all()  # connections, first touches
        before_s = await self._cpu_s()
        for _ in range(_TRIED_ROUNDS):
            await self._ask_all()
        after_s = await self._cpu_s()
        return (after_s["workers"] - before_s["workers"]) / _TRIED_ROUNDS if before_s else 0.0


async def _each(interval_s: float, work: Callable[[], Awaitable[None]]) -> None:
    """At fixed times: a late one does not move those after it, and none is made up for."""
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    while True:
        rounds = (loop.time() - began_s) // interval_s + 1
        await asyncio.sleep(began_s + rounds * interval_s - loop.time())
        await work()
