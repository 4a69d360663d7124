"""A TCP proxy for tests that breaks the connections passing through it, on demand.

    async with FaultProxy.before(database_url) as proxy:
        database = Database(settings, url=proxy.url)
        await proxy.hang()        # bytes stop, both ways; connecting still works: a black hole
        await proxy.forward()     # all well again; what was held back arrives now

It runs in the loop of the test, works with asyncio and uvloop, and closes everything on leaving.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from typing import Self
from urllib.parse import urlsplit, urlunsplit

_LOOPBACK = "127.0.0.1"
_CHUNK_BYTES = 65536
# On close: no waiting for what is unsent, and RST instead of FIN.
_LINGER_NONE = struct.pack("ii", 1, 0)


class FaultProxy:
    """Listens on a free loopback port and passes on to ``host:port``.

    The methods of the same names put it into one state, for present and new connections alike:
    ``forward`` (normal) · ``delay`` · ``hang`` · ``reset`` · ``refuse``. ``cut`` and ``drop_reply``
    happen once and leave the state as it is.
    """

    def __init__(self, host: str, port: int, *, url: str = "") -> None:
        self._target = (host, port)
        self._target_url = url
        self._listener: socket.socket | None = None
        self._port = 0
        self._accepting: asyncio.Task[None] | None = None
        self._links: set[asyncio.Task[None]] = set()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._delay_s = 0.0
        self._resetting = False
        self._replies_to_drop = 0
        #: Connections accepted since the start.
        self.accepted = 0

    @classmethod
    def before(cls, url: str) -> Self:
        """A proxy before the server of this URL; its own ``url`` differs only in the address."""
        address = urlsplit(url)
        if not address.hostname or not address.port:
            raise ValueError("the URL must name a host and a port")
        return cls(address.hostname, address.port, url=url)

    @property
    def port(self) -> int:
        return self._port

    @property
    def url(self) -> str:
        parts = urlsplit(self._target_url)
        credentials, at, _ = parts.netloc.rpartition("@")
        return urlunsplit(parts._replace(netloc=f"{credentials}{at}{_LOOPBACK}:{self._port}"))

    @property
    def connections(self) -> int:
        """Open at this moment."""
        return len(self._links)

    async def __aenter__(self) -> Self:
        self._listen()
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self._stop_listening()
        await self.cut()

    # --- states -------------------------------------------------------------------------------

    async def forward(self) -> None:
        """Normal again: nothing is delayed, held back, reset or refused."""
        self._delay_s, self._resetting, self._replies_to_drop = 0.0, False, 0
        self._flowing.set()
        if self._listener is None:
            self._listen()

    async def delay(self, seconds: float) -> None:
        """Everything takes this much longer, each way."""
        self._delay_s = seconds

    async def hang(self) -> None:
        """Silence: connections open and stay open, and no byte passes until ``forward``."""
        self._flowing.clear()

    async def reset(self) -> None:
        """RST to every connection, and to each new one as soon as it is accepted."""
        self._resetting = True
        await self.cut()

    async def refuse(self) -> None:
        """As if the server's process were gone: connections reset, new ones refused."""
        await self._stop_listening()
        await self.cut()

    # --- once ---------------------------------------------------------------------------------

    async def cut(self) -> None:
        """RST to every present connection, on both sides."""
        links = list(self._links)
        for link in links:
            link.cancel()
        if links:
            await asyncio.wait(links)

    async def drop_reply(self, count: int = 1) -> None:
        """Let the next ``count`` requests through and lose their answers; the connections stay."""
        self._replies_to_drop = count

    # --- machinery ----------------------------------------------------------------------------

    def _listen(self) -> None:
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((_LOOPBACK, self._port))
        listener.listen(128)
        listener.setblocking(False)
        self._port = int(listener.getsockname()[1])
        self._listener = listener
        self._accepting = asyncio.create_task(self._accept(listener))

    async def _stop_listening(self) -> None:
        if self._accepting:
            self._accepting.cancel()
            await asyncio.wait([self._accepting])
        if self._listener:
            self._listener.close()  # a task that never began to accept has not closed it
        self._accepting = self._listener = None

    async def _accept(self, listener: socket.socket) -> None:
        with listener:
            while True:
                client, _ = await asyncio.get_running_loop().sock_accept(listener)
                self.accepted += 1
                link = asyncio.create_task(self._link(client))
                self._links.add(link)
                link.add_done_callback(self._links.discard)

    async def _link(self, client: socket.socket) -> None:
        """One connection, until both sides have ended it or it is broken."""
        upstream = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        ends = (client, upstream)
        with client, upstream:
            for end in ends:
                end.setblocking(False)
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            try:
                if self._resetting:
                    raise ConnectionResetError
                await self._flowing.wait()
                await asyncio.get_running_loop().sock_connect(upstream, self._target)
                await self._pump_both(client, upstream)
            except (OSError, asyncio.CancelledError) as broken:
                for end in ends:
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NONE)
                if isinstance(broken, asyncio.CancelledError):
                    raise

    async def _pump_both(self, client: socket.socket, upstream: socket.socket) -> None:
        reply = _Reply()
        try:
            async with asyncio.TaskGroup() as pumps:
                pumps.create_task(self._pump(client, upstream, reply, request=True))
                pumps.create_task(self._pump(upstream, client, reply, request=False))
        except* OSError as broken:
            raise ConnectionResetError from broken

    async def _pump(
        self, source: socket.socket, sink: socket.socket, reply: _Reply, *, request: bool
    ) -> None:
        loop = asyncio.get_running_loop()
        while data := await loop.sock_recv(source, _CHUNK_BYTES):
            if self._delay_s:
                await asyncio.sleep(self._delay_s)
            await self._flowing.wait()
            if request:
                reply.dropping = self._replies_to_drop > 0
                self._replies_to_drop -= reply.dropping
            elif reply.dropping:
                continue
            await loop.sock_sendall(sink, data)
        await self._flowing.wait()
        with contextlib.suppress(OSError):  # it is gone: nobody need be told
            sink.shutdown(socket.SHUT_WR)


class _Reply:
    """What one connection's two directions know of each other."""

    dropping = False
