"""What one run of a scenario came to, as it is kept in ``build/load/<scenario>.json``.

Times are seconds since the run began unless their name says otherwise; latencies count from the
moment a request was due, not from when it could be sent (no coordinated omission).
"""

from __future__ import annotations

from datetime import datetime
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field

#: Raised when a reader of older files would go wrong.
FORMAT: Final = 1

#: Of one answer: admitted and served; refused by a limit (429); shed or a dependency away (503);
#: any other refusal (4xx); failed (5xx, no answer).
Kind = Literal["ok", "denied", "unavailable", "refused", "failed"]
KINDS: tuple[Kind, ...] = ("ok", "denied", "unavailable", "refused", "failed")


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Machine(_Part):
    """Where it was measured."""

    cpu: str
    cores: int
    memory_mib: int
    system: str
    python: str
    packages: dict[str, str]


class Fleet(_Part):
    """What ``make load`` started itself; absent with ``TARGET=``."""

    replicas: int
    workers: int = Field(description="of each replica")
    environment: dict[str, str]


class Offered(_Part):
    """What was to be sent."""

    schedule: str = Field(description="for people: constant 200/s, ramp 10/s to 500/s, ...")
    rate: float | None = Field(description="mean, per second; none: as fast as answers come")
    connections: int
    principals: int


class GeneratorState(_Part):
    """Whether the figures are the fleet's or the generator's."""

    processes: int
    cpu_share: list[float] = Field(description="of one core, by process, 0 to 1")
    late_p99_ms: float = Field(description="a due request that had a free connection was sent late")
    bottleneck: bool
    says: str


class Latency(_Part):
    """Milliseconds; ``histogram`` is HdrHistogram's V2 compressed form, in µs."""

    count: int
    mean: float
    p50: float
    p90: float
    p99: float
    p999: float
    max: float
    histogram: str


class Requests(_Part):
    """All requests of one group of clients to one route."""

    group: str = Field(description="of clients, by the scenario: polite, abuser, ...")
    route: str = Field(description="GET /flows/{flow}")
    sent: int
    kinds: dict[Kind, int]
    statuses: dict[int, int]
    problems: dict[str, int] = Field(description="by the last part of the problem's type")
    errors: dict[str, int] = Field(description="no answer: refused, reset, timeout, unreadable")
    latency: Latency | None = Field(description="of requests answered 2xx or 3xx")
    refusal_latency: Latency | None = Field(description="of those answered anything else")


class Second(_Part):
    """What happened in one second of the run, to one group."""

    at: int
    group: str
    due: int
    kinds: dict[Kind, int]
    p50_ms: float | None
    p99_ms: float | None
    max_ms: float | None
    in_flight: int


class Admissions(_Part):
    """What one policy let through, against the bound: burst + rate x interval, every interval."""

    policy: str
    group: str
    rate_per_s: float
    burst: int
    principals: int
    offered: int
    admitted: int
    allowed: float = Field(description="burst + rate x length of the run, over its principals")
    worst_excess: float = Field(description="tokens above the bound in the worst window")
    worst_window_s: float
    worst_principal: str
    least: int = Field(description="admitted of the principal with the fewest")
    most: int
    fairness: float = Field(description="Jain's index over the principals, 1 is equal")


class Sales(_Part):
    """Purchases from start to result, checked as a purchaser would."""

    begun: int
    refused: int
    paid: int
    completed: int
    failed: int
    lost: int = Field(description="accepted and paid, and no final state in time")
    doubled: int = Field(description="more than one payment or run for one purchase")
    wrong_hashes: int
    wrong_times: int
    findings: list[str] = Field(description="the first few, in words")
    latency: Latency | None = Field(description="from start_job due to the result seen")


class Sample(_Part):
    """The fleet and what it stands on, as seen at one moment (totals since the run began)."""

    at: float
    cpu_s: dict[str, float] = Field(description="by part: workers, nginx, redis, postgres, sandbox")
    redis_commands: int
    redis_bytes: int
    queries: int
    pool_in_use: int
    pool_size: int
    in_flight: int
    shed: int
    denied_locally: int
    breaker: str


class Costs(_Part):
    """What a request cost on the average; what could not be seen is absent."""

    cpu_us: dict[str, float] = Field(description="by part, per request answered")
    redis_commands: float | None
    redis_bytes: float | None
    queries: float | None


class Event(_Part):
    at: float
    kind: Literal["breaker", "shed", "degraded", "generator", "fleet"]
    text: str


class Verdict(_Part):
    """One threshold and what was measured."""

    name: str
    limit: str
    measured: str
    passed: bool
    judged: bool = Field(True, description="else there was nothing to judge, or not fit for it")
    measure: str = Field("", description="of those scripts/load/judging/measures.py knows")
    bound: float | None = Field(None, description="the limit as a number, in the measure's unit")
    group: str | None = None
    route: str | None = None
    against: Literal["", "group", "baseline"] = ""


class Reference(_Part):
    """What another generator measured of the same, in the same minutes."""

    program: str
    command: str
    per_second: float
    p50_ms: float | None
    p99_ms: float | None
    ours_per_second: float


class Record(_Part):
    """One run."""

    format: Literal[1] = FORMAT
    scenario: str
    title: str
    purpose: str
    command: str
    target: str
    began: datetime
    seconds: float
    seed: int
    machine: Machine
    fleet: Fleet | None
    offered: Offered
    generator: GeneratorState
    requests: list[Requests]
    seconds_of: list[Second]
    admissions: list[Admissions]
    sales: Sales | None
    samples: list[Sample]
    costs: Costs | None
    events: list[Event]
    verdicts: list[Verdict]
    references: list[Reference] = []

    @property
    def passed(self) -> bool:
        return all(verdict.passed for verdict in self.verdicts)
