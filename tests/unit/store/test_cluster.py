"""What a cluster's nodes tell, and the clients that are kept for those there are."""

from __future__ import annotations

from typing import Any

import pytest
from redis.asyncio import Redis

from service.settings import RedisSettings
from service.store.cluster import SLOTS, Cluster

HALF = SLOTS // 2


class Nodes:
    """Answer CLUSTER SLOTS: first, last, primary and replicas of each range, by port."""

    def __init__(self) -> None:
        self.ranges = [(0, HALF - 1, 1, 4), (HALF, SLOTS - 1, 2, 5)]

    def slots(self) -> list[Any]:
        return [
            [first, last, *([b"10.0.0.1", port] for port in ports)]
            for first, last, *ports in self.ranges
        ]


@pytest.fixture
def nodes(monkeypatch: pytest.MonkeyPatch) -> Nodes:
    answering = Nodes()

    async def execute_command(_: Redis, *command: str) -> Any:
        assert command == ("CLUSTER SLOTS",)
        return answering.slots()

    monkeypatch.setattr(Redis, "execute_command", execute_command)
    return answering


async def test_looking_again_and_again_makes_no_new_clients_for_the_same_nodes(
    nodes: Nodes,
) -> None:
    cluster = Cluster(RedisSettings(), "redis+cluster://10.0.0.1:1")
    await cluster.look_again()
    servers = [f"10.0.0.1:{port}" for port in (1, 2, 4, 5)]
    clients = [cluster._pools.of(server) for server in servers]
    for _ in range(10):
        await cluster.look_again()
    assert [cluster._pools.of(server) for server in servers] == clients
    # Of a node that is gone none is kept.
    nodes.ranges = [(0, HALF - 1, 1, 4), (HALF, SLOTS - 1, 5)]
    await cluster.look_again()
    assert cluster._pools.of(servers[3]) is clients[3]
    assert cluster._pools.of(servers[1]) is not clients[1]
    await cluster.close()
