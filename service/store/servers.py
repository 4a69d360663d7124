"""The servers behind a redis.url: one, or the nodes of a Redis Cluster.

A cluster's client finds the node of a key by itself and follows its redirects: only where the
server's answer proves that nothing has run. Lines go to a node by name, and leave redirects to
whoever uses them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, cast

import redis.asyncio
from redis.asyncio import BlockingConnectionPool, RedisCluster
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import SlotNotCoveredError

from service.errors import ConfigurationError
from service.store import address

if TYPE_CHECKING:
    from service.settings import RedisSettings


class Servers(Protocol):
    """Where keys are, and how one connects to there. A node's name is its address."""

    client: redis.asyncio.Redis
    clustered: bool
    address: str

    def node_of(self, key: str) -> str: ...
    def nodes(self) -> tuple[str, ...]: ...
    def connection(self, node: str) -> AbstractConnection: ...
    async def look_again(self) -> None: ...
    async def close(self) -> None: ...


def servers(settings: RedisSettings, url: str) -> Servers:
    """Raises ConfigurationError."""
    kind = Cluster if address.is_cluster(url) else SingleServer
    return kind(settings, url)


class SingleServer:
    clustered = False

    def __init__(self, settings: RedisSettings, url: str) -> None:
        self.address = address.single_address(url)
        options = address.connection_options(settings)
        try:
            pool = BlockingConnectionPool.from_url(url, timeout=settings.timeout, **options)
        except ValueError:
            # redis-py's own text may quote the URL, and with it the password.
            raise ConfigurationError(
                "redis.url: not a Redis URL (redis://host:port/database)"
            ) from None
        self._pool = pool
        self.client = redis.asyncio.Redis.from_pool(pool)

    def node_of(self, _key: str) -> str:
        return self.address

    def nodes(self) -> tuple[str, ...]:
        return (self.address,)

    def connection(self, _node: str) -> AbstractConnection:
        # Whoever holds a line has one time-out for all that is sent together.
        options = {**self._pool.connection_kwargs, "socket_timeout": None}
        return self._pool.connection_class(**options)

    async def look_again(self) -> None:
        """Nothing moves."""

    async def close(self) -> None:
        await self.client.aclose()
        await self._pool.disconnect()


class Cluster:
    clustered = True

    def __init__(self, settings: RedisSettings, url: str) -> None:
        hosts = address.cluster_hosts(url)
        self.address = ",".join(f"{host}:{port}" for host, port in hosts)
        self._first = self.address.partition(",")[0]
        self._cluster = RedisCluster(
            startup_nodes=[ClusterNode(host, port) for host, port in hosts],
            # A part without a node must not take the rest with it.
            require_full_coverage=False,
            **address.connection_options(settings),
            **address.cluster_credentials(url),
        )
        # The commands the store's users call are the same.
        self.client = cast(redis.asyncio.Redis, self._cluster)

    def node_of(self, key: str) -> str:
        """As far as is known; a wrong node answers with a redirect."""
        try:
            node = self._cluster.get_node_from_key(key)
        except SlotNotCoveredError:
            node = None
        return self._first if node is None else node.name

    def nodes(self) -> tuple[str, ...]:
        return tuple(node.name for node in self._cluster.get_primaries())

    def connection(self, node: str) -> AbstractConnection:
        host, _, port = node.rpartition(":")
        options: dict[str, Any] = {**self._cluster.connection_kwargs, "socket_timeout": None}
        for name in ("max_connections", "response_callbacks"):
            options.pop(name)
        kind = options.pop("connection_class")
        connection: AbstractConnection = kind(host=host, port=int(port), **options)
        return connection

    async def look_again(self) -> None:
        """Ask the nodes anew who holds what."""
        await self._cluster.nodes_manager.initialize()

    async def close(self) -> None:
        await self._cluster.aclose()
