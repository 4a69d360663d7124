"""Many clients that wait for news of jobs, each on a socket of its own, in one process."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

from scripts.loopback import LOOPBACK

_LENGTH = re.compile(rb"\r\n[Cc]ontent-[Ll]ength: *(\d+)")


class Client(asyncio.Protocol):
    """Asks once; ``answer`` is all it was sent, ``answered_s`` when (monotonic)."""

    def __init__(self, job: str, request: str) -> None:
        self.job = job
        self.answer = b""
        self.answered_s: float | None = None
        self._request = request

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.write(self._request.encode())

    def data_received(self, data: bytes) -> None:
        self.answer += data
        head, end, body = self.answer.partition(b"\r\n\r\n")
        if end and (length := _LENGTH.search(head)) and len(body) >= int(length[1]):
            self.answered_s = time.monotonic()

    @property
    def head(self) -> str:
        return self.answer.partition(b"\r\n\r\n")[0].decode()


@asynccontextmanager
async def crowd(port: int, flow: str, jobs: list[str], *, each: int) -> AsyncIterator[list[Client]]:
    """``each`` clients for each of the jobs, all of whom have sent their request."""
    loop = asyncio.get_running_loop()
    clients: list[Client] = []
    try:
        for job in jobs:
            request = f"GET /{flow}/status?job_id={job}&wait=25 HTTP/1.1\r\nHost: tollgate\r\n\r\n"
            for _ in range(each):
                client = Client(job, request)
                await loop.create_connection(lambda: client, LOOPBACK, port)  # noqa: B023
                clients.append(client)
        yield clients
    finally:
        for client in clients:
            client.transport.abort()
        await asyncio.sleep(0.05)  # closed in the next turns of the loop


async def answered(clients: list[Client], *, within_s: float) -> None:
    """Until all of these have been."""
    async with asyncio.timeout(within_s):
        while any(client.answered_s is None for client in clients):
            await asyncio.sleep(0.005)
