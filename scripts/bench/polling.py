"""Clients that ask for the status of jobs: over and over, or waiting for a change. Raw sockets."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import cycle
from typing import cast

from scripts.bench.load import LoadFailed
from scripts.loopback import LOOPBACK

_LENGTH = re.compile(rb"\r\n[Cc]ontent-[Ll]ength: *(\d+)")


class Client(asyncio.Protocol):
    """One connection; ``told`` is called with each answer, of which it holds the last.

    ``asked_s`` and ``answered_s`` (None: not yet) are on the monotonic clock.
    """

    def __init__(self, told: Callable[[Client], None]) -> None:
        self._told = told
        self.path = ""
        self.answer = b""
        self.over = asyncio.Event()
        self.asked_s = 0.0
        self.answered_s: float | None = None

    def ask(self, path: str) -> None:
        self.path, self.answer, self.answered_s = path, b"", None
        self.over.clear()
        self.asked_s = time.monotonic()
        self.transport.write(f"GET {path} HTTP/1.1\r\nHost: tollgate\r\n\r\n".encode())

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self.answer += data
        head, end, body = self.answer.partition(b"\r\n\r\n")
        if end and (length := _LENGTH.search(head)) and len(body) >= int(length[1]):
            self.answered_s = time.monotonic()
            self.over.set()
            self._told(self)

    @property
    def head(self) -> str:
        return self.answer.partition(b"\r\n\r\n")[0].decode()

    @property
    def status(self) -> int:
        return int(self.answer[9:12])


@asynccontextmanager
async def clients(
    port: int, number: int, told: Callable[[Client], None] = lambda _: None
) -> AsyncIterator[list[Client]]:
    """So many connections, closed afterwards."""
    loop = asyncio.get_running_loop()
    found: list[Client] = []
    try:
        for _ in range(number):
            _, client = await loop.create_connection(lambda: Client(told), LOOPBACK, port)
            found.append(client)
        yield found
    finally:
        for client in found:
            client.transport.abort()
        await asyncio.sleep(0.05)  # they close in the next turns of the loop


async def answered(waiting: Sequence[Client], *, within_s: float) -> None:
    """Until all of these have been; raises TimeoutError."""
    async with asyncio.timeout(within_s):
        for client in waiting:
            await client.over.wait()


@dataclass(frozen=True, slots=True)
class Polled:
    answers: int
    seconds: float
    p50_ms: float
    p99_ms: float


async def poll(port: int, paths: Sequence[str], *, connections: int, seconds: float) -> Polled:
    """Each connection asks again as soon as it is answered, for one path after the other.

    Raises LoadFailed where anything but 200 is answered.
    """
    over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    next_path, took_s = cycle(paths), []

    def told(client: Client) -> None:
        now_s = time.monotonic()
        took_s.append(now_s - client.asked_s)
        if client.status == 200 and now_s < end_s:
            client.ask(next(next_path))
        elif client.status != 200 and not over.done():
            over.set_exception(LoadFailed(f"answered {client.status}"))
        elif not over.done():
            over.set_result(None)

    async with clients(port, connections, told) as all_clients:
        began_s = time.monotonic()
        end_s = began_s + seconds
        for client in all_clients:
            client.ask(next(next_path))
        async with asyncio.timeout(seconds + 10):
            await over
        elapsed_s = time.monotonic() - began_s
    ordered = sorted(took_s)
    p50_s, p99_s = (ordered[len(ordered) * share // 100] for share in (50, 99))
    return Polled(len(ordered), elapsed_s, p50_s * 1000, p99_s * 1000)
