"""How quickly new connections come in while a worker's turns are long."""

from __future__ import annotations

import asyncio
import socket
from contextlib import ExitStack

import uvloop
from aiohttp import web

from scripts.loopback import LOOPBACK
from service.server import sockets
from service.server.models import Applications
from service.server.serving import ACCEPTED_AT_ONCE, Serving
from service.settings import ServerSettings

CLIENTS = 96


async def turns_until_all_are_in() -> int:
    """Of the loop; the clients' handshakes are over before the first."""
    public, internal = (sockets.bound("PORT", LOOPBACK, 0) for _ in range(2))
    serving = Serving(
        ServerSettings(),
        Applications(web.Application(), web.Application(), drain=lambda: None),
    )
    turns = 0
    with ExitStack() as clients:
        await serving.open([public, internal])
        server = serving._public.server
        assert server is not None
        for _ in range(CLIENTS):
            clients.enter_context(socket.create_connection(public.getsockname(), 5))
        async with asyncio.timeout(20):
            while len(server.connections) < CLIENTS:
                await asyncio.sleep(0)
                turns += 1
    await serving.close()
    return turns


def test_several_connections_come_in_with_each_turn() -> None:
    """On the workers' own loop. Else the queue outside would grow where no request is refused."""
    turns = uvloop.run(turns_until_all_are_in())
    assert turns <= 2 * CLIENTS / ACCEPTED_AT_ONCE + 10
