"""The parts of a worker as they are while it traces: the same, each with a span round what it does.

``service.wiring`` takes these in place of the others only where tracing is on, so that off they
cost nothing, not even a question whether it is on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from service import tracing
from service.admission.limiter import Limiter
from service.cache.cache import TieredCache
from service.database.classes import Lane, StatementClass

if TYPE_CHECKING:
    from service.admission.models import Charge, Decision
    from service.cache.loading import Load
    from service.cache.models import Ages, Cached
    from service.database.models import PoolStatus
    from service.database.observer import Observer


class TracedLimiter(Limiter):
    """Shows each question to Redis; what is known without asking is the request's own span."""

    async def take(self, charges: Sequence[Charge]) -> Decision:
        policies = ",".join(charge.policy.name for charge in charges)
        with tracing.span(
            "admission", tracing.Kind.CLIENT, {"tollgate.policies": policies}
        ) as span:
            decision = await super().take(charges)
            span.tell(
                {
                    "tollgate.allowed": decision.allowed,
                    "tollgate.without_redis": decision.degraded or None,
                    "tollgate.known": decision.local or None,
                }
            )
            return decision


class TracedCache(TieredCache):
    """Shows each value asked for, by the cache's name: keys are names of flows, and many."""

    async def get(self, key: str, load: Load, *, ages: Ages | None = None) -> Cached:
        with tracing.span("cache") as span:
            cached = await super().get(key, load, ages=ages)
            span.tell(
                {
                    "tollgate.age_s": round(cached.age_s, 3),
                    "tollgate.stale": cached.stale or None,
                    "tollgate.degraded": cached.degraded or None,
                }
            )
            return cached


class TracedStatements:
    """A database's observer that shows each statement by its name, never by its parameters."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer

    def watch(self, status: Callable[[], PoolStatus]) -> None:
        self._observer.watch(status)

    def waited(self, lane: Lane, seconds: float) -> None:
        self._observer.waited(lane, seconds)

    def refused(self, lane: Lane, reason: str) -> None:
        self._observer.refused(lane, reason)

    def opened(self) -> None:
        self._observer.opened()

    def lost(self, cause: str) -> None:
        self._observer.lost(cause)

    def repeated(self) -> None:
        self._observer.repeated()

    def ran(self, name: str, kind: StatementClass, seconds: float, outcome: str) -> None:
        self._observer.ran(name, kind, seconds, outcome)
        if (tracer := tracing.tracer()) is not None:
            told = {"db.system.name": "postgresql", "db.query.summary": name}
            tracer.past(f"database {name}", seconds, told, "" if outcome == "ok" else outcome)
