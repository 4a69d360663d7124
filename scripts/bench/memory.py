"""What many clients cost: bytes in Redis for each, and the worker's memory, which must not grow."""

from __future__ import annotations

from dataclasses import dataclass

from redis import Redis

from scripts.bench.contestants import Contestant
from scripts.bench.load import Generator, Load, LoadFailed
from scripts.bench.processes import resident_bytes

#: A million takes two minutes; a worker that has hung takes for ever.
LIMIT_S = 600.0


@dataclass(frozen=True, slots=True)
class BucketSize:
    keys: int
    used_bytes: int

    @property
    def bytes_each(self) -> float:
        return self.used_bytes / self.keys


@dataclass(frozen=True, slots=True)
class Growth:
    """Resident memory of the worker after so many clients had each been seen once."""

    clients: tuple[int, ...]
    resident_bytes: tuple[int, ...]

    @property
    def since_first(self) -> float:
        """The last figure over the first."""
        return self.resident_bytes[-1] / self.resident_bytes[0]


def bucket_size(url: str, redis_url: str, generator: Generator, clients: int) -> BucketSize:
    """Each client is admitted once; the limit must refill so slowly that all buckets stay."""
    client = Redis.from_url(redis_url)
    try:
        _ask_once_each(url, generator, 64, first=clients)  # scripts, buffers, connections
        keys, used = client.dbsize(), _used_bytes(client)
        _ask_once_each(url, generator, clients, first=2 * clients)
        added = client.dbsize() - keys
        size = BucketSize(added, _used_bytes(client) - used)
    finally:
        client.close()
    if added < clients:
        raise LoadFailed(f"only {added} of {clients} clients have a bucket")
    return size


def growth(contestant: Contestant, generator: Generator, marks: tuple[int, ...]) -> Growth:
    """Asked by ever new clients, until as many as each mark says have been there."""
    resident, seen = [], 0
    for mark in marks:
        _ask_once_each(contestant.url, generator, mark - seen, first=10_000_000 + seen)
        seen = mark
        resident.append(resident_bytes(contestant.pid))
    return Growth(marks, tuple(resident))


def _used_bytes(client: Redis) -> int:
    """Without the buffers of connections, which come and go with the load."""
    figures = client.info("memory")
    return int(figures["used_memory"]) - int(figures["mem_clients_normal"])


def _ask_once_each(url: str, generator: Generator, count: int, *, first: int) -> None:
    load = Load(f"{url}/health", LIMIT_S, requests=count, principals=count, first_principal=first)
    outcome = generator.offer(load)
    if outcome.requests != count:
        raise LoadFailed(f"{outcome.requests} of {count} clients could ask")
