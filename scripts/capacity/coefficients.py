"""What things cost, as measured: ``config/capacity.toml``.

CPU in µs, of the part that is named; everything else in the unit its name ends with.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, PositiveFloat, PositiveInt

from scripts.running import ROOT

FILE: Final = ROOT / "config" / "capacity.toml"

#: A request to one of these; status: of a job that goes on, status_final: of one that has ended.
Route = Literal["health", "flow", "flows", "status", "status_final", "denied"]
ROUTES: Final[tuple[Route, ...]] = (
    *("health", "flow", "flows", "status", "status_final", "denied"),
)
#: Not admitted, so not charged in Redis.
DENIED: Final = "denied"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Measured(_Part):
    at: str
    machine: str
    command: str


class RouteCost(_Part):
    """Of one request on a busy worker."""

    worker_us: PositiveFloat


class Kind(_Part):
    """One job from start_job to its last write, the requests of its purchaser's polling aside."""

    worker_us: PositiveFloat
    postgres_us: NonNegativeFloat
    queries: NonNegativeFloat
    commits: NonNegativeFloat
    told: NonNegativeFloat = Field(description="of these commits, the ones that notify")
    wal_bytes: NonNegativeFloat
    redis_calls: NonNegativeFloat
    payment_calls: NonNegativeFloat


class Admission(_Part):
    """A call decides one principal's requests of one kind that wait at one worker."""

    worker_call_us: NonNegativeFloat = Field(description="of the worker, for each call")
    redis_call_us: PositiveFloat
    call_bytes: PositiveFloat = Field(description="both directions")
    round_trip_ms: PositiveFloat = Field(
        description="of an idle worker; what arrives meanwhile goes together"
    )
    bucket_bytes: PositiveFloat = Field(description="of Redis, for each bucket of a principal")
    base_bytes: PositiveFloat


class Reads(_Part):
    """Of statuses: one query answers all that wait at one worker."""

    query_us: NonNegativeFloat = Field(description="of PostgreSQL, for each query")
    row_us: NonNegativeFloat = Field(description="of PostgreSQL, for each request in it")
    round_trip_ms: PositiveFloat


class Idle(_Part):
    """What one worker does without any client, each second."""

    worker_us: NonNegativeFloat
    postgres_us: NonNegativeFloat
    queries: NonNegativeFloat
    redis_calls: NonNegativeFloat


class Contention(_Part):
    """Of workers on one machine, by the universal scalability law."""

    sigma: NonNegativeFloat
    kappa: NonNegativeFloat


class Limits(_Part):
    """What one of each can take; what is not measured is chosen, and may be chosen otherwise."""

    worker_share: PositiveFloat = Field(lt=1, description="of a worker's core, planned with")
    workers_per_replica: PositiveInt
    spare_replicas: int = Field(ge=0)
    worker_runs: PositiveInt = Field(description="jobs.concurrency")
    worker_connections: PositiveInt = Field(description="database.pool_max, and one that listens")
    worker_mib: PositiveFloat
    flow_bytes: PositiveFloat = Field(description="of a cached flow in Redis")
    nginx_us: PositiveFloat = Field(description="for a request")
    nginx_cores: PositiveInt
    redis_share: PositiveFloat = Field(lt=1, description="of a shard's one thread")
    redis_shard_gib: PositiveFloat
    redis_shard_mbit: PositiveFloat
    postgres_cores: PositiveInt
    postgres_share: PositiveFloat = Field(lt=1)
    postgres_connections: PositiveInt
    told_per_s: PositiveFloat = Field(description="commits that notify: one after the other")
    wal_mib_per_s: PositiveFloat
    payment_calls_per_s: PositiveFloat


class Coefficients(_Part):
    measured: Measured
    routes: dict[Route, RouteCost]
    free_job: Kind
    paid_job: Kind
    admission: Admission
    reads: Reads
    idle: Idle
    contention: Contention
    limits: Limits


def read(file: Path = FILE) -> Coefficients:
    with file.open("rb") as source:
        return Coefficients.model_validate(tomllib.load(source))


def text(coefficients: Coefficients) -> str:
    """TOML, as ``read`` reads it."""
    lines = ["# What things cost, for `make capacity` (docs/scaling.md).", ""]
    for name, table in coefficients.model_dump().items():
        for title, values in table.items() if name == "routes" else ((name, table),):
            head = f"routes.{title}" if name == "routes" else name
            if name == "limits":
                lines.append(
                    "# What one of each may give: chosen, but for told_per_s and nginx_us (fit)."
                )
            lines += [f"[{head}]", *(f"{key} = {_value(value)}" for key, value in values.items())]
            lines.append("")
    return "\n".join(lines)


def _value(value: str | float) -> str:
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if isinstance(value, int):
        return f"{value:_}"
    return f"{value:.4g}" if value < 1000 else f"{value:.1f}"
