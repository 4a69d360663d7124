"""Clients that ask for the status of jobs: over and over, or waiting for a change. Raw sockets."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle
from typing import cast

from scripts.bench.load import LoadFailed

_LENGTH = re.compile(rb"\r\n[Cc]ontent-[Ll]ength: *(\d+)")


@dataclass(frozen=True, slots=True)
class Polled:
    answers: int
    seconds: float
    p50_ms: float
    p99_ms: float


class _Client(asyncio.Protocol):
    """One connection; ``answered`` is called with the status line of each answer."""

    def __init__(self, crowd: _Crowd) -> None:
        self._crowd = crowd
        self._buffer = b""
        self.asked_s = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def ask(self, path: str) -> None:
        self.asked_s = time.perf_counter()
        self.transport.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, end, body = self._buffer.partition(b"\r\n\r\n")
        if end and (length := _LENGTH.search(head)) and len(body) >= int(length[1]):
            self._buffer = body[int(length[1]) :]
            self._crowd.answered(self, head[9:12])

    def connection_lost(self, exc: Exception | None) -> None:
        self._crowd.lost()


class _Crowd:
    def __init__(self) -> None:
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def connect(self, port: int, number: int) -> list[_Client]:
        loop = asyncio.get_running_loop()
        found = []
        for _ in range(number):
            _, client = await loop.create_connection(lambda: _Client(self), "127.0.0.1", port)
            found.append(client)
        return found

    def answered(self, client: _Client, status: bytes) -> None:
        raise NotImplementedError

    def lost(self) -> None:
        if not self.over.done():
            self.over.set_exception(LoadFailed("a connection was closed"))

    def fail(self, status: bytes) -> None:
        if not self.over.done():
            self.over.set_exception(LoadFailed(f"answered {status.decode()}"))


class Polling(_Crowd):
    """Each connection asks again as soon as it is answered, for one path after the other."""

    def __init__(self, paths: list[str]) -> None:
        super().__init__()
        self._paths: Iterator[str] = cycle(paths)
        self._took_s: list[float] = []
        self._end_s = 0.0

    async def __call__(self, port: int, *, connections: int, seconds: float) -> Polled:
        clients = await self.connect(port, connections)
        began_s = time.perf_counter()
        self._end_s = began_s + seconds
        for client in clients:
            client.ask(next(self._paths))
        await self.over
        took_s = time.perf_counter() - began_s
        for client in clients:
            client.transport.abort()
        ordered = sorted(self._took_s)
        return Polled(
            len(ordered),
            took_s,
            ordered[len(ordered) // 2] * 1000,
            ordered[len(ordered) * 99 // 100] * 1000,
        )

    def answered(self, client: _Client, status: bytes) -> None:
        now_s = time.perf_counter()
        self._took_s.append(now_s - client.asked_s)
        if status != b"200":
            self.fail(status)
        elif now_s < self._end_s:
            client.ask(next(self._paths))
        elif not self.over.done():
            self.over.set_result(None)


class WaitingCrowd(_Crowd):
    """Clients that ask once each, with ``wait=25``; ``answered_s`` holds when answers came."""

    def __init__(self) -> None:
        super().__init__()
        self.answered_s: list[float] = []

    async def ask(self, port: int, paths: list[str]) -> None:
        """Ask for each of the paths, on a connection of its own."""
        self._clients = await self.connect(port, len(paths))
        for client, path in zip(self._clients, paths, strict=True):
            client.ask(path)

    async def until(self, number: int, *, within_s: float) -> None:
        """Until so many have been answered."""
        async with asyncio.timeout(within_s):
            while len(self.answered_s) < number:
                if self.over.done():
                    self.over.result()
                await asyncio.sleep(0.001)

    def leave(self) -> None:
        self.over.cancel()
        for client in self._clients:
            client.transport.abort()

    def answered(self, client: _Client, status: bytes) -> None:
        if status != b"200":
            self.fail(status)
        self.answered_s.append(time.perf_counter())
