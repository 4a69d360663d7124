"""Clients of a fleet: many kept-alive connections, each answer noted with its two instants."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from scripts.loopback import LOOPBACK
from tests.e2e.windows import Span

#: Before a connection that a killed worker took with it is made anew.
PAUSE_S = 0.02
_LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")
_RETRY_AFTER = re.compile(rb"(?i)\r\nretry-after: *(\d+)")


@dataclass(frozen=True, slots=True)
class Reply:
    asked_us: int
    told_us: int
    status: int
    retry_after_s: int | None

    @property
    def admitted(self) -> bool:
        return self.status in {200, 404}

    @property
    def refused(self) -> bool:
        return self.status == 429


@dataclass(slots=True)
class Replies:
    """``lost``: asked and never answered; how those were decided nobody knows."""

    known: list[Reply] = field(default_factory=list)
    lost: int = 0

    def spans(self) -> list[Span]:
        """When each admission was decided: between question and answer."""
        return [Span(reply.asked_us, reply.told_us) for reply in self.known if reply.admitted]

    def admitted_between(self, since_s: float, until_s: float) -> int:
        """By the instant of the answer, on the monotonic clock."""
        return sum(
            reply.admitted and since_s <= reply.told_us / 1_000_000 < until_s
            for reply in self.known
        )

    def unexpected(self) -> set[int]:
        return {reply.status for reply in self.known if not (reply.admitted or reply.refused)}


async def crowd(
    ports: Sequence[int], path: str, principal: str, *, run_s: float, connections: int,
    pace_s: float = 0.0, over: asyncio.Event | None = None,
) -> Replies:  # fmt: skip
    """All ``connections``, spread over the ports, ask for ``run_s`` whenever they are answered.

    Or until it is ``over``, if that is sooner. With ``pace_s`` each waits so long in between: a
    load the machine carries with ease.
    """
    replies = Replies()
    end_s = time.monotonic() + run_s

    def ended() -> bool:
        return time.monotonic() >= end_s or (over is not None and over.is_set())

    async def visitor(port: int) -> None:
        while not ended():
            try:
                async with Visit(port, principal) as visit:
                    while not ended():
                        replies.known.append(await visit.ask(path))
                        await asyncio.sleep(pace_s)
            except (OSError, asyncio.IncompleteReadError):
                replies.lost += 1
                await asyncio.sleep(PAUSE_S)

    async with asyncio.TaskGroup() as group:
        for number in range(connections):
            group.create_task(visitor(ports[number % len(ports)]))
    return replies


class Visit:
    """One connection of one client, whose address a trusted proxy tells."""

    def __init__(self, port: int, principal: str) -> None:
        self._port = port
        self._fields = f"Host: tollgate\r\nX-Forwarded-For: {principal}\r\n\r\n"

    async def __aenter__(self) -> Visit:
        self._reader, self._writer = await asyncio.open_connection(LOOPBACK, self._port)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.close()

    async def ask(self, path: str) -> Reply:
        request = f"GET {path} HTTP/1.1\r\n{self._fields}".encode()
        asked_us = time.monotonic_ns() // 1000
        self._writer.write(request)
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = _LENGTH.search(head)
        assert length, head
        await self._reader.readexactly(int(length[1]))
        told_us = time.monotonic_ns() // 1000
        retry_after = _RETRY_AFTER.search(head)
        return Reply(
            asked_us, told_us, int(head[9:12]), int(retry_after[1]) if retry_after else None
        )
