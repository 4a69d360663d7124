"""The servers behind a redis.url: one, the nodes of a Redis Cluster, or what Sentinel watches.

Where keys move between servers, ``client`` follows by itself, where the server's answer proves that
nothing has run. Lines go to a node by name, and leave that to whoever uses them; a name stays the
same while another server takes over.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import redis.asyncio
from redis.asyncio import BlockingConnectionPool
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import NoScriptError

from service.errors import ConfigurationError
from service.store import address
from service.store.cluster import Cluster
from service.store.sentinel import Sentinels

if TYPE_CHECKING:
    from service.settings import RedisSettings


class Servers(Protocol):
    """Where keys are, and how one connects to there."""

    client: redis.asyncio.Redis
    #: Are the keys spread over several nodes?
    clustered: bool
    #: May another server take over, or take over keys?
    follows: bool
    address: str

    def node_of(self, key: str) -> str: ...
    def nodes(self) -> tuple[str, ...]: ...
    def place_of(self, node: str) -> str: ...
    def connection(self, node: str) -> AbstractConnection: ...
    async def look_again(self) -> None: ...
    def doubt(self) -> None: ...
    async def close(self) -> None: ...


def servers(settings: RedisSettings, url: str) -> Servers:
    """Raises ConfigurationError."""
    kind = address.kind_of(url)
    if kind == "cluster":
        return Cluster(settings, url)
    if kind == "sentinel":
        return Sentinels(settings, url)
    return SingleServer(settings, url)


class SingleServer:
    clustered = False
    follows = False

    def __init__(self, settings: RedisSettings, url: str) -> None:
        self.address = address.single_address(url)
        options = address.connection_options(settings) | address.encryption(settings, url)
        # The URL says so itself.
        options.pop("connection_class", None)
        try:
            pool = BlockingConnectionPool.from_url(url, timeout=settings.timeout, **options)
        except ValueError:
            # redis-py's own text may quote the URL, and with it the password.
            raise ConfigurationError(address.bad_url("single")) from None
        self._pool = pool
        self.client = redis.asyncio.Redis.from_pool(pool)

    def node_of(self, _key: str) -> str:
        return self.address

    def nodes(self) -> tuple[str, ...]:
        return (self.address,)

    def place_of(self, _node: str) -> str:
        return self.address

    def connection(self, _node: str) -> AbstractConnection:
        # Whoever holds a line has one time-out for all that is sent together.
        options = {**self._pool.connection_kwargs, "socket_timeout": None}
        return self._pool.connection_class(**options)

    async def look_again(self) -> None:
        """Behind the one address there may be another server now: only new connections show it."""
        await self._pool.disconnect(inuse_connections=False)

    def doubt(self) -> None:
        """Nothing moves."""

    async def close(self) -> None:
        await self.client.aclose()
        await self._pool.disconnect()


async def evalsha_or_load(
    client: redis.asyncio.Redis, sha: str, source: str, keys: Sequence[str], args: Sequence[Any]
) -> Any:
    """On one server; NOSCRIPT proves that nothing ran."""
    try:
        return await client.evalsha(sha, len(keys), *keys, *args)
    except NoScriptError:
        # SCRIPT LOAD, unlike EVAL, keeps the script out of the server's eviction list.
        await client.script_load(source)
        return await client.evalsha(sha, len(keys), *keys, *args)
