"""More requests than a worker can answer, of several kinds at once: ``python -m tests.e2e.flood``
with the JSON of a list of Streams as its argument, the JSON of their Outcomes on stdout.

A process of its own, so that it may be kept on another core than the worker. A stream with a rate
is open: its requests come at random moments (Poisson) however slow the answers are, each on a
connection that is idle or on a new one; its latency counts from that moment. One without a rate is
closed: each connection asks again as soon as it is answered, also when it is refused.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import subprocess
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from ipaddress import IPv4Address
from typing import cast

import uvloop

from scripts.loopback import LOOPBACK
from scripts.running import ROOT

#: For the last answers.
LAST_CALL_S = 15.0
#: Until then the limit is being found.
SETTLING_S = 1.0
_LENGTH = re.compile(rb"\r\n[Cc]ontent-[Ll]ength: *(\d+)")


@dataclass(frozen=True, slots=True)
class Stream:
    """Requests of one kind; ``connections`` are all there may be at once."""

    port: int
    path: str
    seconds: float
    connections: int
    body: str | None = None
    per_second: float | None = None
    #: Clients that take turns, by address.
    first_client: str = "101.1.1.1"
    clients: int = 1
    begin_s: float = 0.0

    def head(self, number: int) -> bytes:
        address = IPv4Address(self.first_client) + number % self.clients
        body = (self.body or "").encode()
        method = "GET" if self.body is None else "POST"
        return (
            f"{method} {self.path} HTTP/1.1\r\nHost: {LOOPBACK}\r\nX-Forwarded-For: {address}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        ).encode() + body


@dataclass(frozen=True, slots=True)
class Outcome:
    """Answers by status until the end of the stream; times of those that were not refused."""

    answers: dict[str, int]
    seconds: float
    p50_ms: float
    p99_ms: float
    #: Of those that came after the first second.
    settled_p99_ms: float
    retry_after: list[int]

    @property
    def good(self) -> int:
        """Answered as they should be: also that there is a mistake in them."""
        return sum(number for status, number in self.answers.items() if status < "429")

    @property
    def per_second(self) -> float:
        """Of the good ones."""
        return self.good / self.seconds

    @property
    def refused(self) -> int:
        return self.answers.get("503", 0)


def flood(*streams: Stream) -> list[Outcome]:
    """All of them at once; whoever calls decides on which cores."""
    program = (sys.executable, "-m", "tests.e2e.flood", json.dumps([asdict(s) for s in streams]))
    done = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [Outcome(**outcome) for outcome in json.loads(done.stdout)]


class _Run:
    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._idle: list[_Connection] = []
        self._connections: list[_Connection] = []
        self._due: deque[float] = deque()
        self._begun = self._answered = self._opening = 0
        self._openers: set[asyncio.Task[None]] = set()
        self._answers: Counter[str] = Counter()
        self._latencies_s: list[float] = []
        self._settled_s: list[float] = []
        self._retry_after: set[int] = set()
        self._over = asyncio.Event()
        self._end_s = 0.0

    async def __call__(self) -> Outcome:
        stream = self._stream
        await asyncio.sleep(stream.begin_s)
        if stream.per_second is None:
            for _ in range(stream.connections):
                await self._connect()
        began_s = time.perf_counter()
        self._end_s = began_s + stream.seconds
        if stream.per_second is None:
            for connection in self._connections:
                self._go_on(connection)
        else:
            await self._arrivals(began_s, stream.per_second)
        async with asyncio.timeout(stream.seconds + LAST_CALL_S):
            await self._over.wait()
        for connection in self._connections:
            connection.close()
        ordered = sorted(self._latencies_s) or [0.0]
        settled = sorted(self._settled_s) or [0.0]
        return Outcome(
            answers=dict(self._answers),
            seconds=stream.seconds,
            p50_ms=ordered[len(ordered) // 2] * 1000,
            p99_ms=ordered[len(ordered) * 99 // 100] * 1000,
            settled_p99_ms=settled[len(settled) * 99 // 100] * 1000,
            retry_after=sorted(self._retry_after),
        )

    async def _connect(self) -> _Connection:
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(
            lambda: _Connection(self._answer), LOOPBACK, self._stream.port
        )
        self._connections.append(connection)
        return connection

    async def _arrivals(self, began_s: float, per_second: float) -> None:
        next_s = began_s
        while (now_s := time.perf_counter()) < self._end_s:
            while next_s <= now_s:
                self._arrive(next_s)
                next_s += random.expovariate(per_second)
            await asyncio.sleep(max(0.0, next_s - now_s))
        self._end_if_done()

    def _arrive(self, since_s: float) -> None:
        self._begun += 1
        if self._idle:
            self._idle.pop().ask(self._stream.head(self._begun), since_s)
            return
        self._due.append(since_s)
        if len(self._connections) + self._opening < self._stream.connections:
            self._opening += 1
            opener = asyncio.create_task(self._open())
            self._openers.add(opener)
            opener.add_done_callback(self._openers.discard)

    async def _open(self) -> None:
        connection = await self._connect()
        self._opening -= 1
        self._next(connection)

    def _next(self, connection: _Connection) -> None:
        if self._due:
            connection.ask(self._stream.head(self._begun), self._due.popleft())
        else:
            self._idle.append(connection)

    def _go_on(self, connection: _Connection) -> None:
        now_s = time.perf_counter()
        if now_s < self._end_s:
            self._begun += 1
            connection.ask(self._stream.head(self._begun), now_s)
        else:
            self._end_if_done()

    def _answer(self, connection: _Connection, head: bytes, since_s: float) -> None:
        now_s = time.perf_counter()
        self._answered += 1
        status = head[9:12].decode()
        if now_s <= self._end_s:
            self._answers[status] += 1
        if status < "429":
            self._latencies_s.append(now_s - since_s)
            if since_s > self._end_s - self._stream.seconds + SETTLING_S:
                self._settled_s.append(now_s - since_s)
        elif found := re.search(rb"Retry-After: (\d+)", head):
            self._retry_after.add(int(found[1]))
        if self._stream.per_second is None:
            self._go_on(connection)
        else:
            self._next(connection)
            if now_s >= self._end_s:
                self._end_if_done()

    def _end_if_done(self) -> None:
        if self._answered == self._begun:
            self._over.set()


class _Connection(asyncio.Protocol):
    """One request at a time; answers must carry their length."""

    def __init__(self, answer: Callable[[_Connection, bytes, float], None]) -> None:
        self._answer = answer
        self._received = b""
        self._since_s = 0.0
        self._closing = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def ask(self, request: bytes, since_s: float) -> None:
        self._since_s = since_s
        self._transport.write(request)

    def close(self) -> None:
        self._closing = True
        self._transport.close()

    def data_received(self, data: bytes) -> None:
        self._received += data
        head_end = self._received.find(b"\r\n\r\n")
        length = _LENGTH.search(self._received, 0, head_end) if head_end >= 0 else None
        if length is not None and len(self._received) >= head_end + 4 + int(length[1]):
            head, self._received = self._received[:head_end], b""
            self._answer(self, head, self._since_s)

    def connection_lost(self, error: Exception | None) -> None:
        if not self._closing:
            raise SystemExit(f"the server closed a connection: {error!r}")


async def _all(streams: Sequence[Stream]) -> list[Outcome]:
    return list(await asyncio.gather(*(_Run(stream)() for stream in streams)))


if __name__ == "__main__":
    given = [Stream(**stream) for stream in json.loads(sys.argv[1])]
    print(json.dumps([asdict(outcome) for outcome in uvloop.run(_all(given))]))
