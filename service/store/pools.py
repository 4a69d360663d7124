"""A client of its own for each server, by address: where there are several, or others later."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.connection import AbstractConnection

from service.store import address

if TYPE_CHECKING:
    from service.settings import RedisSettings


class Pools:
    """``login`` and ``more`` are redis-py's options for each connection."""

    def __init__(
        self, settings: RedisSettings, url: str, login: dict[str, Any], **more: Any
    ) -> None:
        self._wait_s = settings.timeout
        self._options = {
            **address.connection_options(settings),
            **address.encryption(settings, url),
            **login,
            **more,
        }
        self._clients: dict[str, Redis] = {}
        #: Of servers nobody is sent to any more; what is on its way there may still be answered.
        self._retired: list[Redis] = []

    def of(self, server: str) -> Redis:
        """Waits for one of its connections if all are in use."""
        client = self._clients.get(server)
        if client is None:
            host, port = _parts(server)
            pool = BlockingConnectionPool(
                host=host, port=port, timeout=self._wait_s, **self._options
            )
            client = self._clients[server] = Redis.from_pool(pool)
        return client

    def connection(self, server: str) -> AbstractConnection:
        """Not yet connected, and without a time-out: its holder has one for all that it sends."""
        options = {**self.of(server).connection_pool.connection_kwargs, "socket_timeout": None}
        return self.of(server).connection_pool.connection_class(**options)

    async def keep(self, servers: Collection[str]) -> None:
        """Let go of all others."""
        for server in [server for server in self._clients if server not in servers]:
            await self.drop(server)

    async def drop(self, server: str) -> None:
        """Whoever asks for this server next gets new connections."""
        client = self._clients.pop(server, None)
        if client is not None:
            self._retired.append(client)
            await client.connection_pool.disconnect(inuse_connections=False)

    async def close(self) -> None:
        for client in (*self._clients.values(), *self._retired):
            await client.aclose()
        self._retired.clear()


def name_of(host: str, port: int | str) -> str:
    """What a server is called here: its address."""
    return f"{host}:{port}"


def _parts(server: str) -> tuple[str, int]:
    host, _, port = server.rpartition(":")
    return host, int(port)
