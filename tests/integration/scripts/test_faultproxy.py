"""The fault proxy does what its method names say, to a server that sends back what it gets."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from scripts.faultproxy import FaultProxy


class Client:
    """One connection to the proxy."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def say(self, word: bytes, *, wait_s: float = 20.0) -> bytes:
        """Send it, and return what comes back; empty when the connection is closed."""
        self._writer.write(word)
        await self._writer.drain()
        return await asyncio.wait_for(self._reader.read(100), wait_s)


Connect = Callable[[], Awaitable[Client]]


@pytest.fixture
async def proxy() -> AsyncIterator[FaultProxy]:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(100):
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with FaultProxy.before(f"echo://me:word@127.0.0.1:{port}/path?q=1") as proxy:
        yield proxy
    server.close()
    await server.wait_closed()


@pytest.fixture
async def connect(proxy: FaultProxy) -> AsyncIterator[Connect]:
    writers: list[asyncio.StreamWriter] = []

    async def make() -> Client:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        writers.append(writer)
        return Client(reader, writer)

    yield make
    for writer in writers:
        writer.close()


async def test_it_passes_on_what_is_said_both_ways(proxy: FaultProxy, connect: Connect) -> None:
    client = await connect()
    assert await client.say(b"one") == b"one"
    assert await client.say(b"two") == b"two"
    assert (proxy.connections, proxy.accepted) == (1, 1)
    assert proxy.url == f"echo://me:word@127.0.0.1:{proxy.port}/path?q=1"


async def test_delay_takes_its_time_each_way(proxy: FaultProxy, connect: Connect) -> None:
    client = await connect()
    await proxy.delay(0.1)
    began = time.monotonic()
    assert await client.say(b"slow") == b"slow"
    assert time.monotonic() - began >= 0.19


async def test_hang_is_silence_for_old_and_new_connections_until_forward(
    proxy: FaultProxy, connect: Connect
) -> None:
    old = await connect()
    await old.say(b"hello")
    await proxy.hang()
    for client in (old, await connect()):
        with pytest.raises(TimeoutError):
            await client.say(b"anybody?", wait_s=0.1)
    await proxy.forward()
    assert await old.say(b"!") in (b"anybody?", b"anybody?!")


async def test_reset_breaks_old_and_new_connections_until_forward(
    proxy: FaultProxy, connect: Connect
) -> None:
    old = await connect()
    await old.say(b"hello")
    await proxy.reset()
    with pytest.raises(ConnectionResetError):
        await old.say(b"hello")
    with pytest.raises((ConnectionResetError, BrokenPipeError)):
        await (await connect()).say(b"hello")
    await proxy.forward()
    assert await (await connect()).say(b"again") == b"again"


async def test_cut_breaks_only_what_is_there(proxy: FaultProxy, connect: Connect) -> None:
    old = await connect()
    await old.say(b"hello")
    await proxy.cut()
    with pytest.raises(ConnectionResetError):
        await old.say(b"hello")
    assert await (await connect()).say(b"again") == b"again"


async def test_refuse_is_a_closed_port_until_forward_opens_the_same_one(
    proxy: FaultProxy, connect: Connect
) -> None:
    port = proxy.port
    await proxy.refuse()
    with pytest.raises(ConnectionRefusedError):
        await connect()
    await proxy.forward()
    assert await (await connect()).say(b"again") == b"again"
    assert proxy.port == port


async def test_a_dropped_reply_is_lost_and_the_next_one_is_not(
    proxy: FaultProxy, connect: Connect
) -> None:
    client = await connect()
    await client.say(b"hello")
    await proxy.drop_reply()
    with pytest.raises(TimeoutError):
        await client.say(b"lost", wait_s=0.2)
    assert await client.say(b"found") == b"found"


async def test_a_server_that_refuses_is_passed_on_as_a_reset(connect: Connect) -> None:
    unused = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    port = unused.sockets[0].getsockname()[1]
    unused.close()
    await unused.wait_closed()
    async with FaultProxy("127.0.0.1", port) as proxy:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(reader.read(), 20)
        writer.close()


async def test_leaving_closes_everything(proxy: FaultProxy) -> None:
    async with FaultProxy("127.0.0.1", proxy.port) as outer:
        reader, writer = await asyncio.open_connection("127.0.0.1", outer.port)
        await Client(reader, writer).say(b"hello")
        port = outer.port
    assert outer.connections == 0
    with pytest.raises(ConnectionResetError):
        await asyncio.wait_for(reader.read(), 20)
    writer.close()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)
