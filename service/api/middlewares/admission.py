"""May this request come in? Asked before anything of it is parsed or read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web
from aiohttp.typedefs import Handler

from service.admission.models import Decision
from service.api import keys, problems, ratelimit_fields
from service.errors import ClientDenied

if TYPE_CHECKING:
    from service.metrics import Metrics

#: For every path that is not in the route table, so that floods of 404s are limited too.
DEFAULT_POLICY = "default"


@web.middleware
async def admission(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Charge the route's policy to the client; refuse with the problem ``quota-exceeded``."""
    name = _policy_name(request)
    if name is None:
        return await handler(request)
    record = request[keys.RECORD]
    record.policy = name
    ruling = request.app[keys.RULES].current.judge(name, record.client)
    if ruling.refused:
        raise ClientDenied
    decision = await request.app[keys.LIMITER].take(ruling.charges)
    _count(request.app[keys.METRICS], decision)
    if not decision.allowed:
        return _refuse(request, decision)
    record.limit_fields = ratelimit_fields.fields(decision)
    return await handler(request)


def _policy_name(request: web.Request) -> str | None:
    resource = request.match_info.route.resource
    if resource is None:
        return DEFAULT_POLICY
    return request.app[keys.ROUTE_POLICIES].get(resource.canonical, DEFAULT_POLICY)


def _count(metrics: Metrics, decision: Decision) -> None:
    refused = {state.policy.name for state in (*decision.violated, *decision.would_deny)}
    for state in decision.states:
        name = state.policy.name
        if name not in refused:
            outcome = "local" if decision.degraded else "allowed"
        else:
            outcome = "shadow" if state.policy.shadow else "denied"
        metrics.admission_decisions.labels(name, outcome).inc()


def _refuse(request: web.Request, decision: Decision) -> web.Response:
    violated = decision.violated
    policy = violated[0].policy
    problem = problems.quota_exceeded(
        detail=(
            f'Quota "{policy.name}" allows {policy.burst} requests per {policy.window_s} s;'
            f" retry in {decision.retry_after_s} s."
        ),
        violated=tuple(state.policy.name for state in violated),
        retry_after_ms=max(state.wait_ms for state in violated),
        headers=ratelimit_fields.denial_fields(decision),
    )
    record = request[keys.RECORD]
    record.problem = problem.code
    record.detail = problem.detail
    return problems.render(problem, request_id=record.request_id)
