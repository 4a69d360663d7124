"""A Redis Cluster on loopback, made by cluster commands: three primaries, with replicas or not."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import redis
from redis.crc import key_slot
from redis.exceptions import ResponseError

from scripts.loopback import free_port
from tests.support.redises import VALKEY, MadeServer, Make
from tests.support.servers import scratch_directory
from tests.support.waiting import eventually

SLOTS = 16384
PRIMARIES = 3
#: A node counts as lost after this long without an answer to the others.
NODE_TIMEOUT_S = 1.0
_READY_WITHIN_S = 30.0


class ClusterNode(MadeServer):
    """One node. Its bus has a port of its own: the usual one, 10,000 above, may not exist."""

    def __init__(self, directory: Path, make: Make, *more: str) -> None:
        super().__init__(
            directory,
            make,
            *("--cluster-enabled", "yes"),
            # A node that is down must not take the others' slots with it.
            *("--cluster-require-full-coverage", "no"),
            # While they join: whoever is not heard for so long is forgotten before it is known.
            *("--cluster-node-timeout", str(round(_READY_WITHIN_S * 1000))),
            # A node whose last slot has moved away stays what it is.
            *("--cluster-allow-replica-migration", "no"),
            # However little it has heard of its primary of late.
            *("--cluster-replica-validity-factor", "0", "--repl-diskless-sync-delay", "0"),
            *more,
        )

    def choose_ports(self) -> None:
        super().choose_ports()
        self._bus_port = free_port()

    def command(self) -> list[str]:
        return [*super().command(), "--cluster-port", str(self._bus_port)]


class ValkeyCluster:
    """Started, joined and covering all slots when made; the primaries are the first three nodes."""

    def __init__(
        self, stack: ExitStack, home: Path, make: Make, *more: str, replicas: bool
    ) -> None:
        self._stack, self._home, self._make, self._more = stack, home, make, more
        self._numbers = itertools.count()
        self._clients: list[Any] = []
        self.nodes: list[ClusterNode] = []
        self._ids: list[str] = []
        for _ in range(2 * PRIMARIES if replicas else PRIMARIES):
            self._started()
        for number in range(PRIMARIES):
            first, after = number * SLOTS // PRIMARIES, (number + 1) * SLOTS // PRIMARIES
            self._clients[number].cluster("ADDSLOTSRANGE", first, after - 1)
        eventually(self._whole, within_s=_READY_WITHIN_S)
        self._hurry()
        for number in range(PRIMARIES, len(self.nodes)):
            self._clients[number].cluster("REPLICATE", self._ids[number - PRIMARIES])
        eventually(self._all_copied, within_s=_READY_WITHIN_S)

    @property
    def url(self) -> str:
        scheme = "rediss" if self._make.tls else "redis"
        hosts = ",".join(f"127.0.0.1:{node.told_port}" for node in self.nodes)
        return f"{scheme}+cluster://{hosts}"

    def flush(self) -> None:
        for client, node in zip(self._clients, self.nodes, strict=True):
            if node.alive and client.role()[0] == b"master":
                client.flushall()
                client.script_flush()

    def holder(self, key: str) -> int:
        """The number of the node that answers for this key."""
        slot = key_slot(key.encode())
        for number, node in enumerate(self.nodes):
            if not node.alive:
                continue
            for first, last, primary, *_ in self._clients[number].execute_command("CLUSTER SLOTS"):
                if first <= slot <= last and primary[1] == node.port:
                    return number
        raise LookupError(key)

    def replica_of(self, number: int) -> int:
        """A living replica of this primary."""
        replicas = self._clients[number].execute_command("CLUSTER SLOTS")
        ports = {
            replica[1]
            for _, _, primary, *others in replicas
            for replica in others
            if primary[1] == self.nodes[number].port
        }
        return next(n for n, node in enumerate(self.nodes) if node.alive and node.port in ports)

    def begin_move(self, key: str, target: int) -> None:
        """From now on the slot's old node sends those it has no key for to ``target`` (ASK)."""
        slot, source = key_slot(key.encode()), self.holder(key)
        self._clients[target].cluster("SETSLOT", slot, "IMPORTING", self._ids[source])
        self._clients[source].cluster("SETSLOT", slot, "MIGRATING", self._ids[target])

    def move_key(self, key: str, name: str, target: int) -> None:
        """One key of the slot, while the others stay."""
        source = self._clients[self.holder(key)]
        source.migrate("127.0.0.1", self.nodes[target].told_port, name, 0, 5000)

    def end_move(self, key: str, target: int) -> None:
        """The keys, then the slot (MOVED)."""
        slot, source = key_slot(key.encode()), self.holder(key)
        held = self._clients[source].cluster("GETKEYSINSLOT", slot, 1000)
        for name in held:
            port = self.nodes[target].told_port
            self._clients[source].migrate("127.0.0.1", port, name, 0, 5000)
        for number in (target, source):
            self._clients[number].cluster("SETSLOT", slot, "NODE", self._ids[target])

    def add_node(self) -> int:
        """An empty primary that all the others know."""
        self._started()
        eventually(self._whole, within_s=_READY_WITHIN_S)
        self._hurry()
        return len(self.nodes) - 1

    def fail_over(self, number: int) -> int:
        """The polite way: the replica takes over from a living primary; returns its number."""
        replica = self.replica_of(number)
        self._clients[replica].cluster("FAILOVER")
        eventually(lambda: self._clients[replica].role()[0] == b"master", within_s=10)
        return replica

    def client(self, number: int) -> Any:
        return self._clients[number]

    def await_takeover(self, key: str) -> int:
        """Until a living node answers for this key; its number."""

        def held() -> bool:
            try:
                self.holder(key)
            except LookupError:
                return False
            return True

        eventually(held, within_s=_READY_WITHIN_S)
        return self.holder(key)

    def heal(self) -> None:
        """Every node is there again, as a primary or as a replica that has caught up."""
        for node in self.nodes:
            node.resume()
            node.start()
        self._hurry()
        eventually(self._all_copied, within_s=_READY_WITHIN_S)

    def close(self) -> None:
        for client in self._clients:
            client.close()

    def _started(self) -> Any:
        node = ClusterNode(self._home / f"node-{next(self._numbers)}", self._make, *self._more)
        self._stack.enter_context(node)
        client: Any = redis.Redis(port=node.port)
        for other, known in zip(self._clients, self.nodes, strict=True):
            bus = other.config_get("cluster-port")["cluster-port"]
            client.cluster("MEET", "127.0.0.1", known.told_port, bus)
        self.nodes.append(node)
        self._clients.append(client)
        self._ids.append(client.cluster("MYID").decode())
        return client

    def _hurry(self) -> None:
        """All know each other: from now on, whoever is silent is missed soon."""
        for client in self._clients:
            client.config_set("cluster-node-timeout", round(NODE_TIMEOUT_S * 1000))

    def _all_copied(self) -> bool:
        """Every replica has caught up, and every node knows it."""
        roles = [client.role() for client in self._clients]
        replicas = sum(role[0] == b"slave" and role[3] == b"connected" for role in roles)
        return self._whole() and all(
            replicas == len(self.nodes) - sum(role[0] == b"master" for role in roles)
            and replicas == len({r[2] for _, _, _, *copies in slots for r in copies})
            for client in self._clients
            for slots in [client.execute_command("CLUSTER SLOTS")]
        )

    def _whole(self) -> bool:
        try:
            return all(
                (info := client.cluster("INFO"))["cluster_state"] == "ok"
                and info["cluster_known_nodes"] == str(len(self.nodes))
                and info["cluster_slots_assigned"] == str(SLOTS)
                and info["cluster_slots_ok"] == str(SLOTS)
                for client in self._clients
            )
        except ResponseError:
            return False


@contextmanager
def valkey_cluster(
    make: Make = VALKEY, *more: str, replicas: bool = False
) -> Iterator[ValkeyCluster]:
    """``more``: arguments of the nodes."""
    with ExitStack() as stack:
        home = stack.enter_context(scratch_directory())
        cluster = ValkeyCluster(stack, home, make, *more, replicas=replicas)
        stack.callback(cluster.close)
        yield cluster
