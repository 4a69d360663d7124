"""Connections to workers of a test's choice: which of them answers is no matter of chance."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

from scripts.chaos.fleet import Fleet
from scripts.loopback import LOOPBACK
from scripts.replica import Replica

TEXT = "Bees make honey. Bees live in hives. A hive has one queen."


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    #: Names in lower case.
    fields: Mapping[str, str]
    body: Any
    #: Moments of the monotonic clock.
    asked_s: float
    told_s: float

    @property
    def problem(self) -> str | None:
        return None if self.status == 200 else str(self.body["type"]).rpartition(":")[2]

    @property
    def took_s(self) -> float:
        return self.told_s - self.asked_s


class Line:
    """One kept-alive connection, which one worker has accepted; a lost one raises OSError."""

    def __init__(
        self, worker: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.worker = worker
        self._reader = reader
        self._writer = writer
        #: Since when it waits for an answer.
        self.waiting_since_s: float | None = None
        #: How many purchases came to "sold", or to the problem of that code.
        self.purchases: Counter[str] = Counter()

    async def get(self, path: str) -> Reply:
        return await self._ask(f"GET {path} HTTP/1.1\r\nHost: tollgate\r\n\r\n".encode())

    async def post(self, path: str, body: Mapping[str, Any], **headers: str) -> Reply:
        content = json.dumps(body).encode()
        fields = {"Host": "tollgate", "Content-Type": "application/json", **headers}
        fields["Content-Length"] = str(len(content))
        head = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in fields.items())
        return await self._ask(f"POST {path} HTTP/1.1\r\n{head}\r\n".encode() + content)

    async def buy(self, flow: str = "text-summary", **headers: str) -> Reply:
        """A purchase of its own."""
        body = {"identifier_from_purchaser": secrets.token_hex(8), "input_data": {"text": TEXT}}
        reply = await self.post(f"/{flow}/start_job", body, **headers)
        self.purchases[reply.problem or "sold"] += 1
        return reply

    def close(self) -> None:
        self._writer.close()

    def waits(self, longer_than_s: float) -> bool:
        since_s = self.waiting_since_s
        return since_s is not None and time.monotonic() - since_s > longer_than_s

    async def _ask(self, request: bytes) -> Reply:
        self.waiting_since_s = asked_s = time.monotonic()
        try:
            self._writer.write(request)
            head = await self._reader.readuntil(b"\r\n\r\n")
            status_line, *lines = head.decode("latin-1").strip().split("\r\n")
            fields = {
                name.lower(): value for name, _, value in (line.partition(": ") for line in lines)
            }
            content = await self._reader.readexactly(int(fields["content-length"]))
        except asyncio.IncompleteReadError as error:
            raise ConnectionResetError("the worker is gone") from error
        finally:
            self.waiting_since_s = None
        body = json.loads(content) if "json" in fields.get("content-type", "") else content
        return Reply(int(status_line.split()[1]), fields, body, asked_s, time.monotonic())


@asynccontextmanager
async def lines(fleet: Fleet, *, each: int = 1) -> AsyncIterator[list[Line]]:
    """So many connections to every worker of the fleet."""
    opened: list[Line] = []
    try:
        for replica in fleet.replicas:
            for worker in replica.workers():
                opened += await _connected(replica, worker, each)
        yield opened
    finally:
        for line in opened:
            line.close()


async def _connected(replica: Replica, worker: int, count: int) -> list[Line]:
    """While its siblings are frozen, this worker is the only one to accept."""
    found = []
    with _frozen([pid for pid in replica.workers() if pid != worker]):
        for _ in range(count):
            line = Line(worker, *await asyncio.open_connection(LOOPBACK, replica.port))
            assert (await line.get("/livez")).status == 200
            found.append(line)
    return found


@contextmanager
def _frozen(pids: list[int]) -> Iterator[None]:
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
