"""What /health/detailed shows of each component, and how that is found out.

``service.health`` asks them in the background; what they cost is spared to the requests.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import asdict, dataclass

from service.admission.limiter import Limiter
from service.breaker.breaker import Breaker
from service.cache.cache import TieredCache
from service.database import Database
from service.errors import DatabaseBusy, DependencyError, StoreUnavailable
from service.flows.changes import FlowChanges
from service.health import Check, ComponentState, Health, Mode
from service.metrics import Metrics
from service.overload.overload import Overload
from service.payments.gateway import PaymentGateway
from service.payments.key import KeyWatch
from service.store.client import Store, refused

#: Of the breaker, shown in /health/detailed.
BREAKER_EVENTS = 10
#: Connections that are there again so soon have not been away; below Health's own limit.
GRACE_S = 0.5


@dataclass(frozen=True, slots=True)
class Watched:
    """The parts that are looked at, and the metrics that are told besides."""

    store: Store
    limiter: Limiter
    database: Database
    cache: TieredCache
    changes: FlowChanges
    breaker: Breaker
    gateway: PaymentGateway
    key: KeyWatch
    overload: Overload
    metrics: Metrics


def health_of(parts: Watched) -> Health:
    """Everything this worker depends on, registered and not yet asked."""
    health = Health()
    health.register("redis", _check_of_redis(parts.store), critical=False, away=Mode.REDIS_AWAY)
    health.register("limits", _check_of_limits(parts.limiter), critical=False)
    health.register("postgres", _check_of_database(parts.database), critical=True)
    health.register("cache", _check_of_cache(parts.cache), critical=False)
    health.register("changes", _check_of_changes(parts.changes, parts.metrics), critical=False)
    health.register("payment", _check_of_payment(parts), critical=False)
    health.register("load", _check_of_load(parts.overload), critical=False)
    return health


def _check_of_redis(store: Store) -> Check:

    async def redis() -> ComponentState:
        try:
            await store.probe()
        except StoreUnavailable as error:
            mode = Mode.REDIS_REFUSING if refused(error) else Mode.REDIS_AWAY
            return ComponentState("down", detail={"error": error.code}, mode=mode)
        return ComponentState("ok")

    return redis


def _check_of_limits(limiter: Limiter) -> Check:
    async def limits() -> ComponentState:
        status = limiter.status()
        if status.mode == "fleet":
            return ComponentState("ok", detail=asdict(status))
        return ComponentState("degraded", detail=asdict(status), mode=Mode.LIMITS_LOCAL)

    return limits


def _check_of_cache(cache: TieredCache) -> Check:
    async def flow_cache() -> ComponentState:
        # Never degraded by itself: whatever it lacks, one of the other components says so.
        return ComponentState("ok", detail=asdict(cache.statistics()))

    return flow_cache


def _check_of_load(overload: Overload) -> Check:
    async def load() -> ComponentState:
        status = overload.status()
        if status.shedding:
            return ComponentState("degraded", detail=asdict(status), mode=Mode.OVERLOADED)
        return ComponentState("ok", detail=asdict(status))

    return load


def _check_of_payment(parts: Watched) -> Check:
    breaker, gateway, key, metrics = parts.breaker, parts.gateway, parts.key, parts.metrics

    async def payment() -> ComponentState:
        seen = await breaker.snapshot()
        metrics.breaker("payment", seen.state)
        detail = {
            "breaker": seen.state,
            "breaker_local": seen.degraded,
            "forced": seen.forced,
            "retry_after_ms": seen.retry_after_ms,
            "calls_in_flight": gateway.in_flight,
            "calls_at_most": gateway.most_in_flight,
            "key": key.fault or key.state,
            "history": [] if seen.degraded else await _history(breaker),
        }
        if seen.state != "closed":
            return ComponentState("degraded", detail=detail, mode=Mode.PAYMENT_OPEN)
        if key.state == "unusable":
            return ComponentState("degraded", detail=detail, mode=Mode.PAYMENT_KEY_UNUSABLE)
        return ComponentState("ok", detail=detail)

    return payment


def _check_of_database(database: Database) -> Check:
    async def postgres() -> ComponentState:
        began_s = time.monotonic()
        error: DependencyError | None = None
        try:
            await database.ping(timeout_s=0.8)  # below Health's own
        except DependencyError as caught:
            error = caught
        latency_ms = round((time.monotonic() - began_s) * 1000, 3)
        pool = database.status()
        detail = {
            "pool_size": pool.size,
            "pool_used": pool.used,
            "pool_waiting": pool.waiting,
            "pool_maximum": pool.maximum,
            "used_by": dict(pool.used_by),
            "waiting_by": dict(pool.waiting_by),
        }
        if isinstance(error, DatabaseBusy):
            detail["error"] = error.code
            return ComponentState("degraded", latency_ms, detail, Mode.POSTGRES_BUSY)
        if error is not None:
            detail["error"] = error.code
            return ComponentState("down", latency_ms, detail, Mode.POSTGRES_AWAY)
        if database.read_only:
            return ComponentState("degraded", latency_ms, detail, Mode.POSTGRES_READ_ONLY)
        return ComponentState("ok", latency_ms, detail)

    return postgres


def _check_of_changes(changes: FlowChanges, metrics: Metrics) -> Check:
    async def flow_changes() -> ComponentState:
        hearing = changes.hearing
        if not (hearing.postgres or hearing.redis):
            # Just started, or both just lost: made again in a moment, they are no news.
            await asyncio.sleep(GRACE_S)
            hearing = changes.hearing
        metrics.changes.connected(postgres=hearing.postgres, redis=hearing.redis)
        if hearing.postgres or hearing.redis:
            return ComponentState("ok", detail=asdict(hearing))
        return ComponentState("degraded", detail=asdict(hearing), mode=Mode.CHANGES_UNHEARD)

    return flow_changes


async def _history(breaker: Breaker) -> list[dict[str, str]]:
    """The latest transitions, without operators' names and reasons: the page is public."""
    try:
        events = await breaker.history(BREAKER_EVENTS)
    except StoreUnavailable:
        return []
    return [
        {
            "at": event.at.isoformat(timespec="milliseconds"),
            "from": event.transition.before,
            "to": event.transition.after,
            "cause": event.transition.cause,
        }
        for event in events
    ]
