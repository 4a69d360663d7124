"""The two web applications of a worker: the public one for clients, the internal one for operators.

Four steps each: middlewares, routes, keys, lifespan.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import nullcontext
from typing import TYPE_CHECKING

from aiohttp import web
from prometheus_client import CollectorRegistry

from service import __version__, metrics
from service.admission.published import PublishedLimits
from service.admission.rules import Rules
from service.api import keys, middlewares, reception, routes
from service.api.access import Access
from service.api.cors import Cors
from service.api.desk import Desk, Parts
from service.api.doorway import Doorway
from service.api.handlers.operations import HealthPage
from service.api.handlers.ops import OpsPage
from service.api.handlers.shop import Shop
from service.api.identity import ClientIdentity
from service.api.middlewares.traced import TracedWay, traced
from service.api.middlewares.way import Way
from service.errors import ConfigurationError
from service.jobs.reconciler import worker_name
from service.settings import ServerSettings, Settings
from service.tracing import packages
from service.wiring import Services, connect

if TYPE_CHECKING:
    from service.tracing import Tracer
    from service.tracing.telemetry import Telemetry


async def create_app(settings: Settings, *, loops: bool = True) -> web.Application:
    """The public application; its start connects all parts, its clean-up closes them.

    ``loops=False`` leaves out the background work (job loops, health polling, heartbeats).
    """
    registry = CollectorRegistry()
    telemetry = _telemetry(settings) if settings.tracing.enabled else None
    app = _public(settings.server, registry, telemetry)
    _set_edge_keys(app, settings)
    app[keys.METRICS_PAGE] = metrics.page_handler(registry)
    app[keys.HEALTH_PAGE] = HealthPage(fast=settings.server.fast_answers)
    app[keys.SHOP] = _shop(settings) if settings.shop.enabled else None

    async def lifespan(app: web.Application) -> AsyncIterator[None]:
        drain = app[keys.DRAINING]
        async with (
            telemetry or nullcontext(),
            connect(
                settings,
                loops=loops,
                registry=registry,
                draining=lambda: drain.leaving,
                classes=app[keys.ROUTE_POLICIES],
            ) as services,
            metrics.handing_over(registry, services.metrics.worker),
        ):
            _set_service_keys(app, services)
            app[keys.DESK] = _desk(settings, services)
            services.metrics.worker.started(version=__version__, workers=settings.server.workers)
            yield

    app.cleanup_ctx.append(lifespan)
    return app


async def create_internal_app(settings: Settings, public: web.Application) -> web.Application:
    """The operators' application: same parts as ``public``, which must be started before it."""
    app = web.Application(
        middlewares=middlewares.in_order_internal(), handler_args=reception.HANDLER_ARGS
    )
    reception.admit_all(app)
    routes.setup_internal(app)
    _set_edge_keys(app, settings)
    app[keys.METRICS_PAGE] = public[keys.METRICS_PAGE]
    app[keys.DRAINING] = public[keys.DRAINING]
    app[keys.ACCESS] = Access(settings.server, settings.admin)
    app[keys.OPS_PAGE] = OpsPage()

    async def share(app: web.Application) -> None:
        app[keys.HEALTH] = public[keys.HEALTH]
        app[keys.METRICS] = public[keys.METRICS]
        app[keys.BREAKER] = public[keys.BREAKER]
        app[keys.READY] = public[keys.READY]
        app[keys.DESK] = public[keys.DESK]

    app.on_startup.append(share)
    return app


def _public(
    server: ServerSettings, registry: CollectorRegistry, tracer: Tracer | None
) -> web.Application:
    """The application with its steps and routes: the fast way, or the plain one."""
    cors = Cors(server.cors_origins) if server.cors_origins else None
    most = server.body_limit_bytes
    if server.fast_answers:
        counts = metrics.HttpCounts(registry)
        way = Way(counts) if tracer is None else TracedWay(counts, tracer)
        app = web.Application(client_max_size=most, handler_args=reception.HANDLER_ARGS)
        Doorway.open(app, way)
        routes.setup(app, way=way, cors=cors)
    else:
        steps = middlewares.in_order(metrics.http_middleware(registry))
        steps = steps if tracer is None else (traced(tracer), *steps)
        app = web.Application(
            middlewares=steps, client_max_size=most, handler_args=reception.HANDLER_ARGS
        )
        routes.setup(app, cors=cors)
    if cors is not None:
        app.on_response_prepare.append(cors)
    reception.admit_all(app)
    return app


def _telemetry(settings: Settings) -> Telemetry:
    """Imported only here: without traces nothing of OpenTelemetry is in this process."""
    try:
        from service.tracing.telemetry import Telemetry  # noqa: PLC0415
    except ImportError as error:
        raise ConfigurationError(packages.FAULT) from error
    return Telemetry(settings.tracing, instance=worker_name())


def _shop(settings: Settings) -> Shop:
    return Shop(
        settings.shop, network=settings.payment.network, result_hash=settings.jobs.result_hash
    )


def _desk(settings: Settings, services: Services) -> Desk:
    return Desk(
        Parts(
            settings=settings,
            fleet=services.fleet,
            breaker=services.breaker,
            limiter=services.limiter,
            rules=services.rules,
            published=PublishedLimits(services.store),
            database=services.database,
            repository=services.repository,
        )
    )


def _set_edge_keys(app: web.Application, settings: Settings) -> None:
    app[keys.SERVER] = settings.server
    app[keys.LOGGING] = settings.logging
    app[keys.IDENTITY] = _identity(settings.server)
    app[keys.DRAINING] = keys.DrainState()


def _set_service_keys(app: web.Application, services: Services) -> None:
    app[keys.CATALOG] = services.catalog
    app[keys.JOBS] = services.lifecycle
    app[keys.STATUSES] = services.statuses
    app[keys.LIMITER] = services.limiter
    app[keys.RULES] = services.rules
    app[keys.OVERLOAD] = services.overload
    app[keys.BREAKER] = services.breaker
    app[keys.HEALTH] = services.health
    app[keys.METRICS] = services.metrics
    app[keys.READY] = lambda: services.database.ready
    app[keys.IDENTITY] = _identity(app[keys.SERVER], services.rules)


def _identity(server: ServerSettings, rules: Rules | None = None) -> ClientIdentity:
    return ClientIdentity(server.trusted_proxies, scheme=server.forwarded_header, rules=rules)
