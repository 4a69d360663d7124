"""What admission itself costs: commands to Redis, and waiting time for the client."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median

from redis import Redis

from scripts.bench.contestants import Contestant
from scripts.bench.load import Generator, Load

#: A fraction of what one worker can do, so that a wait is admission's and not the queue's.
CALM_PER_SECOND = 500.0


@dataclass(frozen=True, slots=True)
class RedisUse:
    """``scripts`` are calls the worker sent; ``commands`` also what ran inside of them."""

    requests: int
    scripts: int
    commands: int

    @property
    def scripts_per_request(self) -> float:
        return self.scripts / self.requests

    @property
    def commands_per_request(self) -> float:
        return self.commands / self.requests


@dataclass(frozen=True, slots=True)
class AddedLatency:
    """p99 in ms, pair by pair: ``/health``, which is limited, and ``/livez``, which is not."""

    limited_ms: tuple[float, ...]
    unlimited_ms: tuple[float, ...]

    @property
    def added_ms(self) -> float:
        pairs = zip(self.limited_ms, self.unlimited_ms, strict=True)
        return median(limited - unlimited for limited, unlimited in pairs)


def redis_use(contestant: Contestant, redis_url: str, generator: Generator, load: Load) -> RedisUse:
    """Over one load; all else this Redis is asked meanwhile counts too."""
    client = Redis.from_url(redis_url)
    try:
        client.config_resetstat()
        outcome = generator.offer(load)
        calls = {
            name.removeprefix("cmdstat_"): int(figures["calls"])
            for name, figures in client.info("commandstats").items()
        }
    finally:
        client.close()
    del calls["config|resetstat"]
    return RedisUse(outcome.requests, calls.get("evalsha", 0), sum(calls.values()))


def added_latency(
    contestant: Contestant, generator: Generator, *, pairs: int, seconds: float
) -> AddedLatency:
    def p99_ms(path: str) -> float:
        load = Load(f"{contestant.url}{path}", seconds, per_second=CALM_PER_SECOND)
        return generator.offer(load).p99_ms

    found: dict[str, list[float]] = {"/health": [], "/livez": []}
    for number in range(pairs):
        for path in reversed(found) if number % 2 else found:
            found[path].append(p99_ms(path))
    return AddedLatency(tuple(found["/health"]), tuple(found["/livez"]))
