"""Every key under which something is kept on the application or on a request."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aiohttp import web
from aiohttp.typedefs import Handler

from service.admission.rulebook import Client
from service.api.identity import ClientIdentity

if TYPE_CHECKING:
    from service.admission.limiter import Limiter
    from service.admission.models import Decision
    from service.admission.rules import Rules
    from service.api.access import Access
    from service.api.desk import Desk
    from service.api.handlers.operations import HealthPage
    from service.api.handlers.ops import OpsPage
    from service.api.handlers.shop import Shop
    from service.api.representation import Representation
    from service.breaker.breaker import Breaker
    from service.flows.catalog import Catalog
    from service.health import Health
    from service.jobs.lifecycle import Lifecycle
    from service.jobs.statuses import Statuses
    from service.metrics import Metrics
    from service.overload.overload import Overload
    from service.settings import LoggingSettings, ServerSettings


@dataclass(slots=True)
class DrainState:
    """Set by the worker when it is told to stop: unready, but finishing what it has."""

    draining: bool = False
    #: This worker goes, alone or with its replica: it begins no more runs.
    leaving: bool = False


@dataclass(slots=True)
class RequestRecord:
    """What the access line tells; the one mutable thing of a request.

    Put on the request before it is cloned, so that every layer shares it.
    """

    request_id: str
    client: Client
    #: On the monotonic clock.
    received_s: float
    policy: str | None = None
    flow: str | None = None
    job: str | None = None
    problem: str | None = None
    detail: str | None = None
    #: Refused by the overload protection: no failure of this request's own.
    turned_away: bool = False
    #: Under which it came in: every answer tells what is left, failures too.
    decision: Decision | None = None


CATALOG: web.AppKey[Catalog] = web.AppKey("catalog")
JOBS: web.AppKey[Lifecycle] = web.AppKey("jobs")
STATUSES: web.AppKey[Statuses] = web.AppKey("statuses")
LIMITER: web.AppKey[Limiter] = web.AppKey("limiter")
#: What is charged for a request: ``request.app[RULES].current.judge(route_class, client)``.
RULES: web.AppKey[Rules] = web.AppKey("rules")
OVERLOAD: web.AppKey[Overload] = web.AppKey("overload")
BREAKER: web.AppKey[Breaker] = web.AppKey("breaker")
HEALTH: web.AppKey[Health] = web.AppKey("health")
METRICS: web.AppKey[Metrics] = web.AppKey("metrics")
#: Renders the Prometheus page (its registry may be one worker's or the whole replica's).
METRICS_PAGE: web.AppKey[Handler] = web.AppKey("metrics_page")
SERVER: web.AppKey[ServerSettings] = web.AppKey("server")
LOGGING: web.AppKey[LoggingSettings] = web.AppKey("logging")
IDENTITY: web.AppKey[ClientIdentity] = web.AppKey("identity")
DRAINING: web.AppKey[DrainState] = web.AppKey("draining")
#: Has this worker all it needs of its own (its pool filled once)? Never about a shared failure.
READY: web.AppKey[Callable[[], bool]] = web.AppKey("ready")
#: The OpenAPI document, rendered once.
OPENAPI: web.AppKey[Representation] = web.AppKey("openapi")
#: ``/health``, rendered once a second.
HEALTH_PAGE: web.AppKey[HealthPage] = web.AppKey("health_page")
#: The page for purchasers; None where it is switched off.
SHOP: web.AppKey[Shop | None] = web.AppKey("shop")
#: Operations, on the internal listener: who may, the page, and what it shows and does.
ACCESS: web.AppKey[Access] = web.AppKey("access")
OPS_PAGE: web.AppKey[OpsPage] = web.AppKey("ops_page")
DESK: web.AppKey[Desk] = web.AppKey("desk")
#: The policy of each path of the route table; None for the uncounted ones.
ROUTE_POLICIES: web.AppKey[Mapping[str, str | None]] = web.AppKey("route_policies")

RECORD: web.RequestKey[RequestRecord] = web.RequestKey("record", RequestRecord)
