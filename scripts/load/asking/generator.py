"""One process of the load generator; what it reads and writes is in ``scripts.load.plan``.

Requests go out when they are due, whatever has become of earlier ones; one that finds no free
connection waits, and its wait counts, so a stall is seen in all its length.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import heapq
import os
import resource
import signal
import sys
import time
from collections.abc import Iterator

import uvloop

from scripts.load.asking.alarm import alarm, now_s
from scripts.load.asking.crowd import Crowd, RouteCrowd
from scripts.load.asking.histogram import Histogram
from scripts.load.asking.lanes import SWEEP_S
from scripts.load.asking.sale import Purchasers
from scripts.load.asking.tally import counted
from scripts.load.plan import READY, Outcome, Plan, Told
from scripts.load.schedule import Closed

#: Between two looks whether the last answers have come.
_LAST_CALL_S = 0.01
_PRIORITY = -10
#: Moment, number of the crowd, principal, choice.
_Due = tuple[float, int, int, float]


class Generator:
    """All groups of one plan, as far as they are this process's."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._crowds: list[RouteCrowd | Purchasers] = []
        first = 0
        for group in plan.scenario.groups:
            kind = Purchasers if group.purchase else RouteCrowd
            self._crowds.append(kind(plan, group, first))
            first += group.principals
        self._began_s = 0.0
        self._second = 0
        self._all_sent = asyncio.Event()

    async def warm(self) -> None:
        for crowd in self._crowds:
            await crowd.warm()

    async def run(self, began_s: float) -> Outcome:
        """From that moment on, to the last answer."""
        loop = asyncio.get_running_loop()
        self._began_s = began_s
        end_s = began_s + self._plan.seconds
        cpu_s = time.process_time()
        minding = loop.create_task(self._mind())
        try:
            await self._ask_all(end_s)
            cpu_s, asked_s = time.process_time() - cpu_s, now_s() - began_s
            for crowd in self._crowds:
                if isinstance(crowd, Purchasers):
                    await crowd.end()
            # Looked at now and then: an event would cost every answer a little.
            while any(crowd.tally.in_flight for crowd in self._crowds):  # noqa: ASYNC110
                await asyncio.sleep(_LAST_CALL_S)
        finally:
            minding.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await minding
        self._turn()
        for crowd in self._crowds:
            crowd.close()
        return self._outcome(cpu_s, asked_s)

    async def _ask_all(self, end_s: float) -> None:
        """Until everything that is due in the run has been sent, or waits to be."""
        coming = heapq.merge(
            *(self._arrivals(number, crowd) for number, crowd in enumerate(self._crowds))
        )
        await asyncio.sleep(max(0.0, self._began_s - now_s()))
        loops = [
            crowd
            for crowd in self._crowds
            if isinstance(crowd, RouteCrowd) and isinstance(crowd.group.schedule, Closed)
        ]
        for crowd in loops:
            crowd.begin_loop(end_s)
        with contextlib.ExitStack() as stack:
            upcoming = next(coming, None)

            def ring() -> None:
                nonlocal upcoming
                at_s = now_s()
                while upcoming is not None and upcoming[0] <= at_s:
                    due_s, number, principal, choice = upcoming
                    self._crowds[number].ask(due_s, principal, choice)
                    upcoming = next(coming, None)
                if upcoming is None:
                    self._all_sent.set()
                else:
                    bell.set(upcoming[0])

            bell = stack.enter_context(alarm(ring))
            ring()
            await self._all_sent.wait()
        while loops and now_s() < end_s and any(c.asking for c in loops):  # noqa: ASYNC110
            await asyncio.sleep(_LAST_CALL_S)

    def _arrivals(self, number: int, crowd: Crowd) -> Iterator[_Due]:
        for at_s, principal, choice in crowd.arrivals():
            yield self._began_s + at_s, number, principal, choice

    async def _mind(self) -> None:
        """Tell each second when it is over; end what waits too long."""
        while True:
            turn_s = self._began_s + self._second + 1
            await asyncio.sleep(max(0.0, min(SWEEP_S, turn_s - now_s())))
            for crowd in self._crowds:
                crowd.sweep(now_s())
            while now_s() >= self._began_s + self._second + 1:
                self._turn()

    def _turn(self) -> None:
        groups = [crowd.tally.turn() for crowd in self._crowds]
        # What comes after the end is told if anything does.
        if self._second < self._plan.seconds or any(one.due or one.kinds for one in groups):
            say(Told(at=self._second, groups=groups).model_dump_json())
        self._second += 1

    def _outcome(self, cpu_s: float, seconds: float) -> Outcome:
        late = Histogram()
        for crowd in self._crowds:
            late.add(crowd.late)
        return Outcome(
            cpu_s=cpu_s,
            seconds=seconds,
            late=counted(late),
            routes=[route.outcome() for c in self._crowds for route in c.tally.routes.values()],
            admitted=[
                one
                for crowd in self._crowds
                for one in crowd.tally.admissions.told(crowd.group.name, crowd.address)
            ],
            bought=[b for c in self._crowds if isinstance(c, Purchasers) for b in c.bought()],
        )


async def _generate() -> None:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=2**28)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    generator = Generator(Plan.model_validate_json(await reader.readline()))
    await generator.warm()
    say(f'{{"kind":"{READY}"}}')
    began = await reader.readline()
    if not began:
        return
    # Nothing of what is there now will be garbage; looking through it would take milliseconds.
    gc.freeze()
    running = loop.create_task(generator.run(float(began)))
    abandoned = loop.create_task(reader.read())
    await asyncio.wait((running, abandoned), return_when=asyncio.FIRST_COMPLETED)
    if running.done():
        say((await running).model_dump_json())
    else:
        running.cancel()
        await asyncio.wait((running,))


def say(line: str) -> None:
    print(line, flush=True)


def _allow_connections() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 65_536 if hard == resource.RLIM_INFINITY else min(65_536, hard)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _go_first() -> None:
    """It needs little, and must be on time; only the superuser may say so."""
    with contextlib.suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, _PRIORITY)


if __name__ == "__main__":
    # Ctrl-C is for who started us: then our input ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _allow_connections()
    _go_first()
    uvloop.run(_generate())
