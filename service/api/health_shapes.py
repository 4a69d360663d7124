"""How the service tells of itself, as pydantic models: /health, /health/detailed and the probes.

Each component has a state and what is special about it; a member that is not known now is left
out. ``error`` is a code, never a text of somebody else's.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from service.health import Mode

BreakerState = Literal["closed", "half-open", "open", "unknown"]


class _Shape(BaseModel):
    model_config = ConfigDict(frozen=True, serialize_by_alias=True, populate_by_name=True)


class HealthView(_Shape):
    """The service as a whole."""

    status: Literal["ok", "degraded"]
    version: str
    breaker: BreakerState


class ProbeView(_Shape):
    """A probe's answer."""

    status: Literal["ok", "draining", "starting"]


class _Detail(_Shape):
    """Of any component."""

    error: str | None = Field(default=None, description="Why it is not well, as a code.")
    stale_s: float | None = Field(
        default=None, description="Nothing has been heard of it for so long; the rest is old."
    )


class RedisDetail(_Detail):
    """Nothing else."""


class LimitsDetail(_Detail):
    """How the limits hold."""

    mode: Literal["fleet", "settling", "away"] | None = Field(
        default=None,
        description=(
            "fleet: exact over all workers; away: as this worker's share; settling: Redis is back"
            " and is being told what was granted without it."
        ),
    )
    workers: int | None = Field(default=None, description="Live workers of the fleet.")
    known_buckets: int | None = Field(
        default=None, description="Empty buckets this worker refuses from without asking."
    )


class PostgresDetail(_Detail):
    """This worker's pool."""

    pool_size: int | None = None
    pool_used: int | None = None
    pool_waiting: int | None = None
    pool_maximum: int | None = None
    used_by: dict[str, int] | None = Field(default=None, description="In use, by lane.")
    waiting_by: dict[str, int] | None = Field(default=None, description="Waiting, by lane.")


class LocalTier(_Shape):
    """The worker's own."""

    hits: int
    stale: int
    degraded: int
    misses: int
    entries: int
    unknowns: int
    bytes: int


class FleetTier(_Shape):
    """The one in Redis."""

    hits: int
    stale: int
    misses: int
    errors: int


class Loads(_Shape):
    """What was read from the database."""

    misses: int
    refreshes: int
    errors: int
    refused: int
    waits: int
    void: int


class CacheDetail(_Detail):
    """Of the flow cache, by tier; counted since this worker started (docs/cache.md)."""

    local: LocalTier | None = None
    fleet: FleetTier | None = None
    loads: Loads | None = None


class ChangesDetail(_Detail):
    """The channels by which this worker hears of changed flows; one of them is enough."""

    postgres: bool | None = None
    redis: bool | None = None


class Transition(_Shape):
    """One of the breaker's latest, the newest first."""

    at: str
    before: str = Field(alias="from")
    to: str
    cause: str


class PaymentDetail(_Detail):
    """The breaker, the calls of this worker, and the key."""

    breaker: BreakerState | None = None
    breaker_local: bool | None = Field(
        default=None, description="Only this worker's view: Redis cannot be asked."
    )
    forced: bool | None = Field(default=None, description="An operator holds it so.")
    retry_after_ms: int | None = None
    calls_in_flight: int | None = None
    calls_at_most: int | None = None
    key: str | None = Field(
        default=None, description="unknown, usable, or what is wrong with the payment key."
    )
    history: list[Transition] | None = None


class LoadDetail(_Detail):
    """How much this worker has in hand, and whether it turns requests away."""

    in_flight: int | None = Field(default=None, description="Limited requests in hand.")
    limit: int | None = Field(
        default=None, description="So many at once while requests are being turned away."
    )
    queue_delay_ms: float | None = Field(
        default=None, description="How long what is ready waits for its turn."
    )
    database_limit: int | None = Field(
        default=None, description="The same for those that need a database connection."
    )
    connection_delay_ms: float | None = Field(
        default=None, description="How long the first that waits for one has done so."
    )
    shedding: bool | None = Field(
        default=None, description="Have requests been turned away in the last seconds?"
    )


class _Component(_Shape):
    state: Literal["ok", "degraded", "down"]
    latency_ms: float | None = Field(default=None, description="Of the last check.")
    mode: Mode | None = None


class RedisView(_Component):
    """Redis: does it run a script that writes?"""

    detail: RedisDetail


class LimitsView(_Component):
    """The limits."""

    detail: LimitsDetail


class PostgresView(_Component):
    """PostgreSQL."""

    detail: PostgresDetail


class CacheView(_Component):
    """The flow cache; never degraded by itself."""

    detail: CacheDetail


class ChangesView(_Component):
    """How changes of flows are heard of."""

    detail: ChangesDetail


class PaymentView(_Component):
    """The payment service, as its breaker knows it."""

    detail: PaymentDetail


class LoadView(_Component):
    """What this worker has to do."""

    detail: LoadDetail


class Components(_Shape):
    """All parts, as this worker last saw them."""

    redis: RedisView
    limits: LimitsView
    postgres: PostgresView
    cache: CacheView
    changes: ChangesView
    payment: PaymentView
    load: LoadView


class DetailedHealthView(HealthView):
    """The service part by part, as the worker that answers sees it."""

    taken_at: str = Field(description="Time of the oldest finding.")
    workers: int | None = Field(default=None, description="Live workers of the fleet.")
    modes: list[Mode] = Field(description="How it makes do with what is missing (docs/api.md).")
    components: Components
