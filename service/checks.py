"""What /health/detailed shows of each component, and how that is found out.

``service.health`` asks them in the background; what they cost is spared to the requests.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import asdict

from service.admission.limiter import Limiter
from service.breaker.breaker import Breaker
from service.cache.cache import TieredCache
from service.database import Database
from service.errors import StoreUnavailable
from service.flows.changes import FlowChanges
from service.health import Check, ComponentState, Health
from service.metrics import Metrics
from service.payments.key import KeyWatch
from service.store.client import Store

#: Of the breaker, shown in /health/detailed.
BREAKER_EVENTS = 10
#: Connections that are there again so soon have not been away; below Health's own limit.
GRACE_S = 0.5


def health_of(
    store: Store,
    limiter: Limiter,
    database: Database,
    cache: TieredCache,
    changes: FlowChanges,
    breaker: Breaker,
    key: KeyWatch,
    metrics: Metrics,
) -> Health:
    """Everything this worker depends on, registered and not yet asked."""

    async def redis() -> ComponentState:
        await store.ping()
        return ComponentState("ok", detail=asdict(limiter.status()))

    async def postgres() -> ComponentState:
        began_s = time.monotonic()
        await database.ping(timeout_s=0.8)  # below Health's own
        latency_ms = (time.monotonic() - began_s) * 1000
        pool = database.status()
        detail = {"pool_size": pool.size, "pool_used": pool.used, "pool_waiting": pool.waiting}
        if database.read_only:
            return ComponentState("degraded", latency_ms, detail, mode="postgres_read_only")
        return ComponentState("ok", latency_ms, detail)

    async def flow_cache() -> ComponentState:
        # Never degraded by itself: whatever it lacks, one of the other components says so.
        return ComponentState("ok", detail=asdict(cache.statistics()))

    async def payment() -> ComponentState:
        seen = await breaker.snapshot()
        metrics.breaker("payment", seen.state)
        detail = {
            "breaker": seen.state,
            "retry_after_ms": seen.retry_after_ms,
            "key": key.fault or key.state,
            "history": [] if seen.degraded else await _history(breaker),
        }
        if seen.state != "closed":
            return ComponentState("degraded", detail=detail, mode="payment_open")
        if key.state == "unusable":
            return ComponentState("degraded", detail=detail, mode="payment_key_unusable")
        return ComponentState("ok", detail=detail)

    health = Health()
    health.register("redis", redis, critical=False)
    health.register("postgres", postgres, critical=True)
    health.register("cache", flow_cache, critical=False)
    health.register("changes", _check_of(changes, metrics), critical=False)
    health.register("payment", payment, critical=False)
    return health


def _check_of(changes: FlowChanges, metrics: Metrics) -> Check:
    async def flow_changes() -> ComponentState:
        hearing = changes.hearing
        if not (hearing.postgres or hearing.redis):
            # Just started, or both just lost: made again in a moment, they are no news.
            await asyncio.sleep(GRACE_S)
            hearing = changes.hearing
        metrics.changes.connected(postgres=hearing.postgres, redis=hearing.redis)
        if hearing.postgres or hearing.redis:
            return ComponentState("ok", detail=asdict(hearing))
        return ComponentState("degraded", detail=asdict(hearing), mode="changes_unheard")

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
