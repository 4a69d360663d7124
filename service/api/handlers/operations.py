"""How the service is: for people, balancers and Prometheus. None of it does I/O of its own."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from aiohttp import web

import service
from service.api import answers, keys
from service.api.health_shapes import Components, DetailedHealthView, HealthView, ProbeView
from service.api.rendered import Rendered, start_of

if TYPE_CHECKING:
    from service.health import Health, HealthSnapshot

#: The page is rendered at most this often.
HEALTH_PAGE_S = 1.0
_HEALTH_START = start_of(
    200, "OK", [("Cache-Control", answers.NEVER_STORED), ("Content-Type", "application/json")]
)
#: The component whose detail tells the breaker's state.
PAYMENT = "payment"


class HealthPage:
    """``/health``, rendered once a second whoever asks; ``fast``: its head too (``rendered``)."""

    def __init__(self, *, fast: bool) -> None:
        self._fast = fast
        self._raw = b""
        self._until_s = 0.0

    def answer(self, health: Health) -> web.Response:
        now_s = time.monotonic()
        if now_s >= self._until_s:
            self._raw = answers.encode(_summary(health.snapshot()))
            self._until_s = now_s + HEALTH_PAGE_S
        if self._fast:
            return Rendered(200, _HEALTH_START, self._raw)
        return answers.answer(self._raw)


async def health(request: web.Request) -> web.StreamResponse:
    app = request.app
    return app[keys.HEALTH_PAGE].answer(app[keys.HEALTH])


async def health_detailed(request: web.Request) -> web.StreamResponse:
    snapshot = request.app[keys.HEALTH].snapshot()
    return answers.answer(detailed(snapshot))


def detailed(snapshot: HealthSnapshot) -> DetailedHealthView:
    """All of it, as it is shown; a component that is not checked here is a mistake."""
    components = Components.model_validate(
        {
            name: {
                "state": found.state,
                "latency_ms": found.latency_ms,
                "mode": found.mode,
                "detail": dict(found.detail),
            }
            for name, found in snapshot.components.items()
        }
    )
    return DetailedHealthView(
        **_summary(snapshot).model_dump(),
        taken_at=snapshot.taken_at.isoformat(),
        workers=components.limits.detail.workers,
        modes=list(snapshot.modes),
        components=components,
    )


async def livez(_request: web.Request) -> web.StreamResponse:
    """The loop turns, or this would not be answered."""
    return answers.answer(ProbeView(status="ok"))


async def readyz(request: web.Request) -> web.StreamResponse:
    """Own ability only: a dependency that all replicas lose must not take all of them away."""
    if request.app[keys.DRAINING].draining:
        return answers.answer(ProbeView(status="draining"), status=503)
    if not request.app[keys.READY]():
        return answers.answer(ProbeView(status="starting"), status=503)
    return answers.answer(ProbeView(status="ok"))


async def metrics(request: web.Request) -> web.StreamResponse:
    return await request.app[keys.METRICS_PAGE](request)


def _summary(snapshot: HealthSnapshot) -> HealthView:
    payment = snapshot.components.get(PAYMENT)
    return HealthView(
        status=snapshot.status,
        version=service.__version__,
        breaker=payment.detail.get("breaker", "unknown") if payment else "unknown",
    )
