"""A Redis Cluster of three primaries on loopback, made of embedded Valkeys by cluster commands."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import redis
from redis.cluster import key_slot

from scripts.loopback import free_port
from scripts.valkey import EmbeddedValkey
from tests.support.servers import scratch_directory

SLOTS = 16384
NODES = 3
_READY_WITHIN_S = 30.0


class ClusterValkey(EmbeddedValkey):
    """One node. Its bus has a port of its own: the usual one, 10,000 above, may not exist."""

    def command(self) -> list[str]:
        return [
            *super().command(),
            *("--cluster-enabled", "yes", "--cluster-port", str(free_port())),
            # A node that is down must not take the others' slots with it.
            *("--cluster-require-full-coverage", "no", "--cluster-node-timeout", "1000"),
        ]


class ValkeyCluster:
    """Started, joined and covering all slots when made."""

    def __init__(self, nodes: list[ClusterValkey]) -> None:
        self.nodes = nodes
        self._clients = [redis.Redis(port=node.port) for node in nodes]
        self._ids = [client.cluster("MYID").decode() for client in self._clients]
        bus = self._clients[0].config_get("cluster-port")["cluster-port"]
        for number, client in enumerate(self._clients):
            first, after = number * SLOTS // NODES, (number + 1) * SLOTS // NODES
            client.cluster("ADDSLOTSRANGE", first, after - 1)
            if number:
                client.cluster("MEET", "127.0.0.1", nodes[0].port, bus)
        self._wait_until_whole()

    @property
    def url(self) -> str:
        hosts = ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)
        return f"redis+cluster://{hosts}"

    def flush(self) -> None:
        for client in self._clients:
            client.flushall()
            client.script_flush()

    def holder(self, key: str) -> int:
        """The number of the node that answers for this key."""
        slot = key_slot(key.encode())
        for number, client in enumerate(self._clients):
            for first, last, primary, *_ in client.execute_command("CLUSTER SLOTS"):
                if first <= slot <= last and primary[1] == self.nodes[number].port:
                    return number
        raise LookupError(key)

    def begin_move(self, key: str, target: int) -> None:
        """From now on the slot's old node sends those it has no key for to ``target`` (ASK)."""
        slot, source = key_slot(key.encode()), self.holder(key)
        self._clients[target].cluster("SETSLOT", slot, "IMPORTING", self._ids[source])
        self._clients[source].cluster("SETSLOT", slot, "MIGRATING", self._ids[target])

    def end_move(self, key: str, target: int) -> None:
        """The keys, then the slot (MOVED)."""
        slot, source = key_slot(key.encode()), self.holder(key)
        held = self._clients[source].cluster("GETKEYSINSLOT", slot, 1000)
        for name in held:
            self._clients[source].migrate("127.0.0.1", self.nodes[target].port, name, 0, 5000)
        for number in (target, source):
            self._clients[number].cluster("SETSLOT", slot, "NODE", self._ids[target])

    def close(self) -> None:
        for client in self._clients:
            client.close()

    def _wait_until_whole(self) -> None:
        end_s = time.monotonic() + _READY_WITHIN_S
        while not all(
            (info := client.cluster("INFO"))["cluster_state"] == "ok"
            and info["cluster_known_nodes"] == str(NODES)
            and info["cluster_slots_assigned"] == str(SLOTS)
            for client in self._clients
        ):
            if time.monotonic() > end_s:
                raise TimeoutError("the cluster did not come together")
            time.sleep(0.02)


@contextmanager
def valkey_cluster() -> Iterator[ValkeyCluster]:
    with ExitStack() as stack:
        home = stack.enter_context(scratch_directory())
        nodes = [
            stack.enter_context(ClusterValkey(home / f"node-{number}")) for number in range(NODES)
        ]
        cluster = ValkeyCluster(nodes)
        stack.callback(cluster.close)
        yield cluster
