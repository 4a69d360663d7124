"""A steady mixed load on a running service, and what each request of it got."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import aiohttp

from tests.support.waiting import until

#: Between two requests of one client.
PAUSE_S = 0.03
#: Of the clock that tells how long the machine stood still, and what of it is usual.
TICK_S, USUALLY_LATE_S = 0.01, 0.05
#: Nothing may take so long; who still waits then is counted as unanswered.
PATIENCE_S = 20.0


@dataclass(frozen=True, slots=True)
class Got:
    """One answer; times on the monotonic clock. Status 0: none came."""

    kind: str
    began_s: float
    ended_s: float
    status: int
    problem: dict[str, Any]
    headers: dict[str, str]

    @property
    def took_s(self) -> float:
        return self.ended_s - self.began_s


@dataclass
class Load:
    """Clients that ask over and over, each for one kind of thing on a connection of its own.

    So a client has one worker for as long as nothing ends its connection.
    """

    url: str
    sessions: list[aiohttp.ClientSession] = field(default_factory=list)
    answers: list[Got] = field(default_factory=list)
    #: When this process was to go on and could not, and for how long.
    stalls: list[tuple[float, float]] = field(default_factory=list)

    def since(self, began_s: float, *kinds: str) -> list[Got]:
        """The answers to what was asked since then."""
        return [
            got
            for got in self.answers
            if got.began_s >= began_s and (not kinds or got.kind in kinds)
        ]

    def stalled_s(self, since_s: float) -> float:
        """How long, in all, this machine had no time for us since then."""
        return sum(late_s for at_s, late_s in self.stalls if at_s >= since_s)

    async def watch(self) -> None:
        while True:
            due_s = time.monotonic() + TICK_S
            await asyncio.sleep(TICK_S)
            late_s = (now_s := time.monotonic()) - due_s
            if late_s > USUALLY_LATE_S:
                self.stalls.append((now_s, late_s))

    async def ask(
        self, session: aiohttp.ClientSession, kind: str, method: str, path: str, body: Any = None
    ) -> Got:
        began_s = time.monotonic()
        status, problem, headers = 0, {}, {}
        try:
            async with session.request(method, self.url + path, json=body) as response:
                status, headers = response.status, dict(response.headers)
                content = await response.read()
                if response.content_type == "application/problem+json":
                    problem = await response.json()
                assert content
        except (aiohttp.ClientError, TimeoutError):
            pass
        got = Got(kind, began_s, time.monotonic(), status, problem, headers)
        self.answers.append(got)
        return got


@asynccontextmanager
async def mixed_load(
    url: str, job_id: str, *, clients: int = 3, pause_s: float = PAUSE_S
) -> AsyncIterator[Load]:
    """So many clients each of: cached flow reads, a final status, look-ups of jobs, free and paid
    sales.
    """
    text = {"input_data": {"text": "Bees make honey. Bees live in hives."}}
    load = Load(url)
    asked: dict[str, Callable[[], tuple[str, str, Any]]] = {
        "flow": lambda: ("GET", "/flows/text-summary", None),
        "schema": lambda: ("GET", "/text-summary/input_schema", None),
        "status": lambda: ("GET", f"/text-summary/status?job_id={job_id}", None),
        "lookup": lambda: ("GET", f"/text-summary/status?job_id={uuid4()}", None),
        "free": lambda: ("POST", "/text-summary+free/start_job", text),
        "paid": lambda: (
            "POST",
            "/text-summary/start_job",
            {**text, "identifier_from_purchaser": secrets.token_hex(8)},
        ),
    }
    async with AsyncExitStack() as stack:

        async def client(kind: str) -> None:
            session = await stack.enter_async_context(
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(PATIENCE_S))
            )
            load.sessions.append(session)
            while True:
                await load.ask(session, kind, *asked[kind]())
                await asyncio.sleep(pause_s)

        asking = [asyncio.create_task(client(kind)) for kind in asked for _ in range(clients)]
        await until(lambda: len(load.sessions) == len(asking))
        asking.append(asyncio.create_task(load.watch()))
        try:
            yield load
        finally:
            for task in asking:
                task.cancel()
            await asyncio.gather(*asking, return_exceptions=True)
