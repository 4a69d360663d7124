"""The nodes of a Redis Cluster, by shard: a shard keeps its name while its primary changes.

So whoever has learned something of a shard (that it is away, what is owed to it) still knows it
after a failover. Who holds what is asked of several nodes at once, and believed as most of them
say: a node that was cut off tells of the past. A redirect is believed at once.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import redis.asyncio
from redis.asyncio.connection import AbstractConnection
from redis.crc import key_slot
from redis.exceptions import ConnectionError  # noqa: A004

from service.store import address
from service.store.looking import Looking
from service.store.polling import poll
from service.store.pools import Pools, name_of
from service.store.routing import RoutedClient

if TYPE_CHECKING:
    from service.settings import RedisSettings

SLOTS = 16384
#: So many nodes are asked who holds what; a majority of them is enough.
ASKED = 5


@dataclass(frozen=True, slots=True)
class Range:
    """Slots that lie together: from, up to and including, held by, copied to."""

    first: int
    last: int
    primary: str
    replicas: tuple[str, ...]


View = tuple[Range, ...]


@dataclass(slots=True, eq=False)
class Shard:
    """Nodes that hold the same slots; ``server`` is the primary's address now."""

    name: str
    server: str
    replicas: frozenset[str] = frozenset()


class Cluster:
    clustered = True
    follows = True

    def __init__(self, settings: RedisSettings, url: str) -> None:
        first = address.several(url)
        self.address = repr(first)
        self._first = [name_of(host, port) for host, port in first.hosts]
        self._limit_s = settings.timeout + settings.connect_timeout
        self._pools = Pools(settings, url, first.login)
        # The commands the store's users call are the same.
        self.client = cast(redis.asyncio.Redis, RoutedClient(self, self._pools))
        self._shards: dict[str, Shard] = {}
        self._by_slot: list[Shard | None] = [None] * SLOTS
        self._looking = Looking(self._look)

    def node_of(self, key: str) -> str:
        """The name of its shard, as far as is known; a wrong one answers with a redirect."""
        shard = self._by_slot[key_slot(key.encode())]
        return self._first[0] if shard is None else shard.name

    def nodes(self) -> tuple[str, ...]:
        return tuple(self._shards)

    def place_of(self, node: str) -> str:
        """The address of the shard's primary."""
        shard = self._shards.get(node)
        return node if shard is None else shard.server

    def connection(self, node: str) -> AbstractConnection:
        return self._pools.connection(self.place_of(node))

    def server_of(self, key: str | bytes | None) -> str | None:
        if key is None:
            return self._shards[random.choice(self.nodes())].server if self._shards else None  # noqa: S311
        shard = self._by_slot[_slot(key)]
        return None if shard is None else shard.server

    def moved(self, key: str | bytes, server: str) -> None:
        """One slot, but if its shard's replica answers for it now, then for all of the shard."""
        slot = _slot(key)
        shard = self._by_slot[slot]
        if shard is not None and server in shard.replicas:
            shard.server = server
            return
        for other in self._shards.values():
            if other.server == server:
                self._by_slot[slot] = other
                return
        self._by_slot[slot] = self._new_shard(self._shards, server)
        self.doubt()

    async def look_again(self) -> None:
        """Ask the nodes anew who holds what; whoever asks meanwhile gets the same answer."""
        await self._looking.done()

    def doubt(self) -> None:
        self._looking.begin()

    async def close(self) -> None:
        await self._looking.stop()
        await self._pools.close()

    async def _look(self) -> None:
        known = self._nodes() or set(self._first)
        asked = random.sample(sorted(known), min(ASKED, len(known)))
        try:
            views = await self._views(asked)
        except (ConnectionError, OSError, TimeoutError):
            # All that is known may be gone: back to where it began.
            views = await self._views(self._first)
        if not views:
            raise ConnectionError("no node of the cluster holds any slot")
        (view, _), *_ = Counter(views).most_common(1)
        self._take(view)
        await self._pools.keep({*self._first, *self._nodes()})

    def _nodes(self) -> set[str]:
        """Primaries and replicas, as far as is known: all of them may be asked."""
        shards = self._shards.values()
        return {server for shard in shards for server in (shard.server, *shard.replicas)}

    async def _views(self, servers: Sequence[str]) -> list[View]:
        def agreed(views: list[View]) -> bool:
            best = max(Counter(filter(None, views)).values(), default=0)
            return best * 2 > len(servers)

        questions = [self._view(server) for server in servers]
        views = await poll(questions, limit_s=self._limit_s / 2, enough=agreed)
        return [view for view in views if view]

    async def _view(self, server: str) -> View:
        told: Any = await self._pools.of(server).execute_command("CLUSTER SLOTS")  # type: ignore[no-untyped-call]
        return _view(told, server.rpartition(":")[0])

    def _take(self, view: View) -> None:
        replicas: dict[str, set[str]] = {}
        for part in view:
            replicas.setdefault(part.primary, set()).update(part.replicas)
        shards: dict[str, Shard] = {}
        for server, copies in replicas.items():
            shard = self._shard_at(server, replicas) or self._new_shard(
                {**self._shards, **shards}, server
            )
            shard.server, shard.replicas = server, frozenset(copies)
            shards[shard.name] = shard
        at = {shard.server: shard for shard in shards.values()}
        by_slot: list[Shard | None] = [None] * SLOTS
        for part in view:
            by_slot[part.first : part.last + 1] = [at[part.primary]] * (part.last + 1 - part.first)
        self._shards, self._by_slot = shards, by_slot

    def _shard_at(self, server: str, primaries: dict[str, set[str]]) -> Shard | None:
        """The one it is the primary of already, or whose primary it replaces."""
        shards = self._shards.values()
        for shard in shards:
            if shard.server == server:
                return shard
        for shard in shards:
            if server in shard.replicas and shard.server not in primaries:
                return shard
        return None

    def _new_shard(self, shards: dict[str, Shard], server: str) -> Shard:
        name, number = server, 1
        while name in shards:
            number += 1
            name = f"{server}#{number}"
        shard = shards[name] = Shard(name, server)
        return shard


def _view(told: Sequence[Any], asked_host: str) -> View:
    """CLUSTER SLOTS: [first, last, [host, port, id, …] of the primary, the same of replicas]."""
    ranges = []
    for first, last, *nodes in told:
        # A node that does not know its own name leaves it out: the one it was asked by.
        primary, *replicas = [
            name_of((node[0] or b"").decode() or asked_host, node[1]) for node in nodes
        ]
        ranges.append(Range(first, last, primary, tuple(sorted(replicas))))
    return tuple(sorted(ranges, key=lambda part: part.first))


def _slot(key: str | bytes) -> int:
    return int(key_slot(key.encode() if isinstance(key, str) else key))
