"""What the operations page is sent and sends, as pydantic models; told in docs/ops-page.md."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from service.breaker.breaker import LONGEST_FORCE_S


class View(BaseModel):
    model_config = ConfigDict(frozen=True, from_attributes=True)


class UseView(View):
    """So many of so many in use, and who waits for one."""

    used: int
    size: int
    waiting: int


class LatencyView(View):
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None


class NumbersView(View):
    """The fleet at one moment; rates per second. ``latency`` also has ``all``: all but status."""

    at_ms: int
    workers: int
    lag_ms: float
    answers: dict[str, dict[str, float]]
    latency: dict[str, LatencyView]
    policies: dict[str, dict[str, float]]
    cache: dict[str, float]
    payments: dict[str, float]
    jobs: dict[str, int]
    in_flight: int
    waiting_clients: UseView
    pool: UseView
    bulkhead: UseView
    runs: UseView


class DeniedView(View):
    kind: str
    hash: str
    per_minute: float


class WorkerView(View):
    worker: str
    replica: str
    pid: int
    version: str
    role: str
    up_s: float
    age_s: float
    requests: int
    per_second: float
    in_flight: int
    lag_ms: float
    memory_bytes: int
    limiter: str
    modes: list[str]
    pool: UseView
    bulkhead: UseView
    runs: UseView
    waiting_clients: UseView


class ForceView(View):
    left_ms: int
    by: str
    reason: str


class BreakerEventView(View):
    at_ms: int
    before: str
    after: str
    cause: str
    who: str
    detail: str
    seconds: float


class BreakerView(View):
    """``local``: Redis is away, and this is the view of the worker that answers."""

    state: Literal["closed", "open", "half-open"]
    streak: int
    threshold: int
    retry_after_ms: int
    generation: int
    error: str
    force: ForceView | None
    local: bool
    events: list[BreakerEventView]


class PolicyView(View):
    name: str
    rate: str
    burst: int
    scope: str
    on_outage: str
    shadow: bool
    routes: list[str]


class ChangeView(View):
    """What somebody did by hand, and why."""

    at_ms: int
    who: str
    what: str
    detail: str


class CrowdView(View):
    state: str
    jobs: int
    oldest_s: float


class SettlementView(View):
    """Results on their way to the chain; ``tightest_s`` until the first is due, if any waits."""

    waiting: int
    stuck: int
    tightest_s: float | None


class JobsView(View):
    open: list[CrowdView]
    settlement: SettlementView
    late_paid: int
    lost: int


class NowView(View):
    """All that the page shows at a glance. ``whole`` false: Redis is away, one worker's own view.

    ``jobs`` is missing while PostgreSQL is away, ``jobs_away`` then says why.
    """

    whole: bool
    unreadable: int
    version: str
    numbers: NumbersView
    modes: dict[str, int]
    denied: list[DeniedView]
    workers: list[WorkerView]
    breaker: BreakerView
    limits_version: str
    policies: list[PolicyView]
    changes: list[ChangeView]
    jobs: JobsView | None
    jobs_away: str | None


class PastView(View):
    samples: list[NumbersView]


class JobLineView(View):
    id: str
    flow: str
    state: str
    settlement: str
    on_chain_state: str | None
    failure_code: str | None
    lease_owner: str | None
    run_attempts: int
    created_ms: int
    updated_ms: int


class JobListView(View):
    jobs: list[JobLineView]


class JobEventView(View):
    seq: int
    at_ms: int
    state: str
    cause: str
    detail: str | None


class JobView(View):
    """One job and how it came there; never what its purchaser put in, nor its result's text."""

    facts: list[tuple[str, str]]
    state: str
    paid_late: bool
    events: list[JobEventView]


class BucketView(View):
    policy: str
    left: int
    burst: int
    full_in_ms: int
    shadow: bool


class PrincipalView(View):
    """A principal's buckets, and the hash under which it is listed if it is denied."""

    principal: str
    kind: str
    hash: str
    buckets: list[BucketView]


class DoneView(View):
    """What an action did, in words."""

    done: str


class Order(BaseModel):
    """What an operator sends. Who and why are kept with it, and shown to all others."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    by: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=60)]
    reason: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]


class ForceOrder(Order):
    state: Literal["open", "closed"]
    seconds: float = Field(gt=0, le=LONGEST_FORCE_S, allow_inf_nan=False)


class ResetOrder(Order):
    """Of the breaker."""


class BucketsOrder(Order):
    principal: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    policy: str | None = Field(default=None, max_length=40)


class ShadowOrder(Order):
    policy: Annotated[str, StringConstraints(min_length=1, max_length=40)]
    shadow: bool = Field(strict=True)


class PrincipalQuestion(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    principal: Annotated[str, StringConstraints(min_length=1, max_length=200)]
