"""Connections that are gone before anybody has asked on them."""

from __future__ import annotations

import asyncio

import pytest

from scripts.load.asking.alarm import now_s
from scripts.load.asking.connection import Connection
from scripts.load.asking.lanes import Lane, Ticket
from scripts.loopback import LOOPBACK
from tests.support.listening import listening
from tests.support.waiting import until


class Told(Ticket):
    """What was told of it."""

    __slots__ = ("future",)

    def __init__(self) -> None:
        super().__init__(b"GET / HTTP/1.1\r\n\r\n", now_s(), 0)
        self.future: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def failed(self, why: str, at_s: float) -> None:
        self.future.set_result(why)


@pytest.mark.parametrize("warmed", [0, 2])
async def test_a_connection_that_is_lost_while_it_is_made_fails_its_request(warmed: int) -> None:
    """As a door does that has no room: it opens and closes."""

    async def wait(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with listening(wait) as port:

        async def opener(connection: Connection) -> None:
            loop = asyncio.get_running_loop()
            transport, _ = await loop.create_connection(lambda: connection, LOOPBACK, port)
            transport.abort()
            await until(lambda: connection.over, within_s=30)

        lane = Lane(opener, 2, timeout_s=60)
        await lane.warm(warmed)
        tickets = [Told() for _ in range(5)]
        for ticket in tickets:
            lane.send(ticket)

        told = await asyncio.wait_for(asyncio.gather(*(one.future for one in tickets)), 30)

    assert told == ["reset"] * 5
    assert (lane.open, lane.busy) == (0, {})
