"""A load generator on raw sockets: one JSON Load as argument, one JSON Outcome on stdout.

Without ``per_second`` each connection asks again as soon as it is answered. With it, requests come
at a fixed rate whatever the server does: one that finds every connection busy waits, and its wait
counts as latency, so a stall is seen in all its length.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from array import array
from collections import deque
from dataclasses import asdict
from ipaddress import IPv4Address
from urllib.parse import urlsplit

import uvloop

from scripts.bench.load import Load, Outcome
from scripts.load.asking.connection import Answer, Connection

#: Where the clients' addresses begin; a million of them fit in, and none is special.
FIRST_ADDRESS = int(IPv4Address("101.1.1.1"))
#: How long the last answers may take.
LAST_CALL_S = 10.0


class Run:
    """One load from its first request to its last answer."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._target = urlsplit(load.url)
        self._head = f"GET {self._target.path} HTTP/1.1\r\nHost: {self._target.netloc}\r\n".encode()
        self._begun = 0
        self._answered = 0
        self._refused = 0
        self._latencies_us = array("I")
        self._idle: deque[_Line] = deque()
        self._due: deque[float] = deque()
        self._over = asyncio.Event()
        self._failure: str | None = None

    async def __call__(self) -> Outcome:
        connections = [await self._connect() for _ in range(self._load.connections)]
        began_s = time.perf_counter()
        self._end_s = began_s + self._load.seconds
        if self._load.per_second:
            self._idle.extend(connections)
            await self._arrivals(began_s, self._load.per_second)
        else:
            for connection in connections:
                self._go_on(connection)
        async with asyncio.timeout(self._load.seconds + LAST_CALL_S):
            await self._over.wait()
        seconds = time.perf_counter() - began_s
        for connection in connections:
            connection.close()
        if self._failure:
            raise SystemExit(self._failure)
        ordered = sorted(self._latencies_us)
        return Outcome(
            requests=self._answered,
            refused=self._refused,
            seconds=seconds,
            p50_ms=ordered[len(ordered) // 2] / 1000,
            p99_ms=ordered[len(ordered) * 99 // 100] / 1000,
        )

    async def _connect(self) -> _Line:
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(
            lambda: _Line(self), self._target.hostname or "", self._target.port or 80
        )
        return connection

    async def _arrivals(self, began_s: float, per_second: float) -> None:
        """Counted from when the arrival is noticed: the loop's timers are a millisecond coarse."""
        number = 0
        while (now_s := time.perf_counter()) < self._end_s and not self._failure:
            while began_s + number / per_second <= now_s:
                number += 1
                if self._idle:
                    self._ask(self._idle.popleft(), now_s)
                else:
                    self._due.append(now_s)
            await asyncio.sleep(max(0.0, began_s + number / per_second - now_s))
        self._end_if_done()

    def _go_on(self, connection: _Line) -> None:
        limit = self._load.requests
        if time.perf_counter() < self._end_s and (limit is None or self._begun < limit):
            self._ask(connection, time.perf_counter())
        else:
            self._end_if_done()

    def _ask(self, connection: _Line, since_s: float) -> None:
        request = self._head
        if self._load.principals:
            number = self._load.first_principal + self._begun % self._load.principals
            request += f"X-Forwarded-For: {IPv4Address(FIRST_ADDRESS + number)}\r\n".encode()
        self._begun += 1
        connection.since_s = since_s
        connection.ask(request + b"\r\n")

    def answered(self, connection: Connection, answer: Answer) -> None:
        assert isinstance(connection, _Line)  # noqa: S101 (there are no others)
        now_s = time.perf_counter()
        self._answered += 1
        self._refused += not 200 <= answer.status < 400
        self._latencies_us.append(int((now_s - connection.since_s) * 1_000_000))
        if not self._load.per_second:
            self._go_on(connection)
        elif self._due:
            self._ask(connection, self._due.popleft())
        else:
            self._idle.append(connection)
            if now_s >= self._end_s:
                self._end_if_done()

    def _end_if_done(self) -> None:
        if self._answered == self._begun and not self._due:
            self._over.set()

    def lost(self, _connection: Connection, why: str | None) -> None:
        self._failure = f"the server closed a connection ({why or 'idle'})"
        self._over.set()


class _Line(Connection):
    """A connection that knows since when its request waits."""

    since_s = 0.0


if __name__ == "__main__":
    print(json.dumps(asdict(uvloop.run(Run(Load(**json.loads(sys.argv[1])))()))))
