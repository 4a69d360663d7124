"""The route table: every address of the service, its handler and the policy it is counted under."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from aiohttp import web

from service import errors
from service.api import health_shapes, keys, openapi, schemas
from service.api.contract import READS, Operation, Route
from service.api.handlers import docs, flows, jobs, operations, ops, shop
from service.api.representation import Representation

if TYPE_CHECKING:
    from service.api.cors import Cors
    from service.api.middlewares.way import Way

_HEALTH, _FLOWS, _MIP, _DOCS = "Health", "Flows", "MIP-003", "Documentation"
_OF_FLOW = (errors.UnknownFlow, errors.FlowUnavailable, *READS)
_NAMED = (errors.InvalidInput, *_OF_FLOW)
#: What answers from the flow cache may carry.
_CACHED = ("Age", "Cache-Status", "Vary")
_OF_JOB = (*_NAMED, errors.UnknownJob)
_OF_SALE = (
    *_NAMED,
    errors.RequestInProgress,
    errors.IdempotencyMismatch,
    errors.PaymentUnavailable,
    errors.PaymentRejected,
    errors.PaymentOutcomeUnknown,
)


def _market(base: str, name: str, flow: str) -> tuple[Route, ...]:
    """MIP-003, below a flow's own address or at the root; ``flow`` names it as a parameter."""
    start_job = Operation(
        "Buy a run of the flow",
        _MIP,
        parameters=(flow, "Idempotency-Key"),
        body=schemas.StartJob,
        answers=(schemas.StartedPaid, schemas.StartedFree),
        headers=("Idempotent-Replayed",),
        failures=_OF_SALE,
    )
    status = Operation(
        "Where a job is, its question and its result",
        _MIP,
        parameters=(flow, "job_id", "wait", "status_id"),
        answers=(schemas.JobStatus,),
        conditional=True,
        failures=_OF_JOB,
    )
    provide_input = Operation(
        "Answer a job's question",
        _MIP,
        parameters=(flow,),
        body=schemas.ProvideInput,
        answers=(schemas.InputProvided,),
        failures=(*_OF_JOB, errors.NotAwaitingInput),
    )
    availability = Operation(
        "May a run be bought now?",
        _MIP,
        parameters=(flow,),
        answers=(schemas.Availability,),
        failures=_NAMED,
    )
    input_schema = Operation(
        "The input the flow takes",
        _MIP,
        parameters=(flow,),
        answers=(schemas.InputFields, schemas.InputGroups),
        conditional=True,
        headers=_CACHED,
        failures=_NAMED,
    )
    demo = Operation(
        "An input to try, and what comes of it",
        _MIP,
        parameters=(flow,),
        answers=(schemas.Demo,),
        conditional=True,
        headers=_CACHED,
        failures=_NAMED,
    )
    rows = (
        ("POST", "start_job", jobs.start_job, start_job),
        ("GET", "status", jobs.status, status),
        ("POST", "provide_input", jobs.provide_input, provide_input),
        ("GET", "availability", flows.availability, availability),
        ("GET", "input_schema", flows.input_schema, input_schema),
        ("GET", "demo", flows.demo, demo),
    )
    return tuple(
        Route(method, f"{base}/{verb}", handler, f"{name}{verb}", verb, operation)
        for method, verb, handler, operation in rows
    )


def _metrics(policy: str | None) -> Route:
    operation = Operation("Metrics in Prometheus text format", _HEALTH, media_type="text/plain")
    return Route("GET", "/metrics", operations.metrics, "metrics", policy, operation)


_PROBES: tuple[Route, ...] = (
    Route(
        "GET",
        "/livez",
        operations.livez,
        "livez",
        None,
        Operation("Does the process live?", _HEALTH, answers=(health_shapes.ProbeView,)),
    ),
    Route(
        "GET",
        "/readyz",
        operations.readyz,
        "readyz",
        None,
        Operation(
            "May it be sent traffic?", _HEALTH, answers=(health_shapes.ProbeView,), probe=True
        ),
    ),
)

#: The public listener.
TABLE: tuple[Route, ...] = (
    Route(
        "GET",
        "/health",
        operations.health,
        "health",
        "health",
        Operation("The service as a whole", _HEALTH, answers=(health_shapes.HealthView,)),
    ),
    Route(
        "GET",
        "/health/detailed",
        operations.health_detailed,
        "health_detailed",
        "health_detailed",
        Operation("The service part by part", _HEALTH, answers=(health_shapes.DetailedHealthView,)),
    ),
    *_PROBES,
    _metrics("default"),
    Route(
        "GET",
        "/flows",
        flows.list_flows,
        "flows",
        "flows",
        Operation(
            "The flows for sale",
            _FLOWS,
            parameters=("limit", "cursor"),
            answers=(schemas.FlowList,),
            conditional=True,
            headers=_CACHED,
            failures=(errors.InvalidInput, *READS),
        ),
    ),
    Route(
        "GET",
        "/flows/{flow}",
        flows.get_flow,
        "flow",
        "flows",
        Operation(
            "One flow",
            _FLOWS,
            parameters=("flow",),
            answers=(schemas.FlowView,),
            conditional=True,
            headers=_CACHED,
            failures=_OF_FLOW,
        ),
    ),
    *_market("/{flow}", "", "flow"),
    *_market("", "root_", "flow="),
    Route(
        "GET",
        "/openapi.json",
        docs.openapi,
        "openapi",
        "default",
        Operation("This document", _DOCS, conditional=True),
    ),
    Route("GET", "/docs", docs.page, "docs", "default"),
    Route("GET", "/docs/{asset}", docs.asset, "docs_asset", "assets"),
    Route("GET", "/", shop.page, "root", "default"),
    Route("GET", "/shop", shop.page, "shop", "default"),
    Route("GET", "/shop/{version}/{asset}", shop.asset, "shop_asset", "assets"),
)
#: The page for operators and all it asks for; who may have it: ``access``.
_OPS: tuple[Route, ...] = tuple(
    Route(method, f"{ops.BASE}{path}", handler, f"ops_{name}", None)
    for method, path, name, handler in (
        ("GET", "", "page", ops.page),
        ("GET", "/{version}/{asset}", "asset", ops.asset),
        ("GET", "/api/v1/now", "now", ops.now),
        ("GET", "/api/v1/past", "past", ops.past),
        ("GET", "/api/v1/jobs", "jobs", ops.jobs),
        ("GET", "/api/v1/jobs/{job}", "job", ops.job),
        ("POST", "/api/v1/principal", "principal", ops.principal),
        ("POST", "/api/v1/principal/reset", "principal_reset", ops.reset_principal),
        ("POST", "/api/v1/breaker/force", "breaker_force", ops.force_breaker),
        ("POST", "/api/v1/breaker/reset", "breaker_reset", ops.reset_breaker),
        ("POST", "/api/v1/policies/shadow", "policy_shadow", ops.shadow_policy),
    )
)
#: The internal listener: probes, metrics and operations, free of policies.
INTERNAL_TABLE: tuple[Route, ...] = (*_PROBES, _metrics(None), *_OPS)


def setup(app: web.Application, *, way: Way | None = None, cors: Cors | None = None) -> None:
    """Add the public rows, and what admission and a page must know of them.

    ``way`` is put round each handler; with ``cors`` each address answers preflights too.
    """
    _add(app, TABLE, way, cors)
    app[keys.OPENAPI] = Representation(openapi.render(TABLE))


def setup_internal(app: web.Application) -> None:
    """Add the internal rows."""
    _add(app, INTERNAL_TABLE)


def _add(
    app: web.Application,
    table: Sequence[Route],
    way: Way | None = None,
    cors: Cors | None = None,
) -> None:
    for row in table:
        methods = ("GET", "HEAD") if row.method == "GET" else (row.method,)
        served = [(method, row.handler, row.policy) for method in methods]
        if cors is not None:
            served.append(("OPTIONS", cors.preflight(methods), None))
        resource = app.router.add_resource(row.path, name=row.name)
        for method, plain, policy in served:
            handler = way.around(plain, route=row.path, policy=policy) if way else plain
            resource.add_route(method, handler)
    app[keys.ROUTE_POLICIES] = {row.path: row.policy for row in table}
