"""What is asked of the model and what it answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from scripts.capacity.coefficients import Route

#: Of the requests that are neither denied nor begin a job: a shop whose purchasers poll.
USUAL: Final[Mapping[Route, float]] = {
    "health": 0.05,
    "flows": 0.10,
    "flow": 0.25,
    "status": 0.40,
    "status_final": 0.20,
}


@dataclass(frozen=True, slots=True)
class Demand:
    """Load in requests a second, those that begin jobs and those that are denied among them."""

    rate: float
    #: Clients within the time their buckets take to fill.
    principals: int = 1_000
    jobs: float = 0.0
    #: Shares, 0 to 1: of the jobs, and of the requests.
    paid: float = 0.9
    denied: float = 0.0
    flows: int = 100
    run_s: float = 1.0
    mix: Mapping[Route, float] = field(default_factory=lambda: dict(USUAL))

    def __post_init__(self) -> None:
        if self.rate <= 0 or self.principals < 1 or min(self.jobs, self.flows, self.run_s) < 0:
            raise ValueError("rates, principals, flows and times can not be negative or nothing")
        if not (0 <= self.paid <= 1 and 0 <= self.denied < 1):
            raise ValueError("shares are 0 to 1")
        if self.jobs > self.rate * (1 - self.denied):
            raise ValueError("each job begins with a request: there are more jobs than requests")
        if sum(self.mix.values()) <= 0 or min(self.mix.values()) < 0:
            raise ValueError("the mix has no share above 0, or one below")

    @property
    def by_route(self) -> dict[Route, float]:
        """Requests a second; those that begin jobs are counted with the jobs."""
        others = self.rate * (1 - self.denied) - self.jobs
        total = sum(self.mix.values())
        found: dict[Route, float] = {
            route: others * share / total for route, share in self.mix.items()
        }
        found["denied"] = self.rate * self.denied
        return found


@dataclass(frozen=True, slots=True)
class Load:
    """What a demand does to everything, workers' number given; a second, unless it says so."""

    worker_cores: float
    nginx_cores: float
    redis_calls: float
    redis_cores: float
    redis_mib: float
    redis_mbit: float
    queries: float
    postgres_cores: float
    commits: float
    told: float
    wal_mib: float
    runs: float
    payment_calls: float


@dataclass(frozen=True, slots=True)
class Bottleneck:
    """One resource: how much of what it may give is used, and what to do when that is too little.

    ``added``: the plan takes as many of it as the load needs.
    """

    resource: str
    load: float
    limit: float
    unit: str
    then: str
    added: bool = False

    @property
    def used(self) -> float:
        return self.load / self.limit

    @property
    def holds(self) -> bool:
        return self.load <= self.limit


@dataclass(frozen=True, slots=True)
class Plan:
    """``bottlenecks``: the one that breaks first comes first."""

    demand: Demand
    workers: int
    replicas: int
    redis_shards: int
    nginx: int
    connections: int
    worker_mib: float
    p99_ms: float
    load: Load
    bottlenecks: tuple[Bottleneck, ...]

    @property
    def holds(self) -> bool:
        return all(one.holds for one in self.bottlenecks)

    @property
    def first_fixed(self) -> Bottleneck:
        """The first to break of those that more workers, shards or nginx do not mend."""
        return next(one for one in self.bottlenecks if not one.added)
