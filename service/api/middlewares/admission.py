"""May this request come in? Asked before anything of it is parsed or read.

First what is known to be denied, which costs least; then whether this worker has room for it at
all; only then is it charged, so that a request turned away is charged nowhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler

from service.api import keys, refusals
from service.api.middlewares.overload import turned_away
from service.errors import ClientDenied
from service.overload.models import priority_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from service.admission.limiter import Limiter
    from service.admission.models import Charge, Decision
    from service.admission.rules import Rules
    from service.api.keys import RequestRecord
    from service.metrics.admission import AdmissionCounts
    from service.overload.overload import Overload

#: How a refusal is written.
Refusal = TypeVar("Refusal", bound=web.Response)

#: For every path that is not in the route table, so that floods of 404s are limited too.
DEFAULT_POLICY = "default"


@web.middleware
async def admission(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Charge the route's policies to the client; refuse with ``quota-exceeded``, or turn it away
    with ``overloaded``.
    """
    name = policy_name(request)
    if name is None:
        return await handler(request)
    app = request.app
    counts, overload = app[keys.METRICS].admission, app[keys.OVERLOAD]
    gate = Gate(app[keys.RULES], app[keys.LIMITER], overload, counts, refusals.refuse)
    record = request[keys.RECORD]
    charges = gate.charges(record, name)
    if (refused := gate.refusal_at_once(record, charges)) is not None:
        return refused
    priority = priority_of(name)
    if (short := overload.enter(priority, record.client.principal)) is not None:
        return await turned_away(overload, record, short, fast=False)
    try:
        refused = await gate.refusal(record, charges)
        return refused if refused is not None else await handler(request)
    finally:
        overload.leave(priority)


class Gate(Generic[Refusal]):
    """The three questions, in this order; each may cost more than the one before."""

    def __init__(
        self,
        rules: Rules,
        limiter: Limiter,
        overload: Overload,
        counts: AdmissionCounts,
        refuse: Callable[[Decision, RequestRecord], Refusal],
    ) -> None:
        self._rules = rules
        self._limiter = limiter
        #: Asked between the second question and the third.
        self.overload = overload
        self._counts = counts
        self._refuse = refuse

    def charges(self, record: RequestRecord, policy: str) -> Sequence[Charge]:
        """What it costs; nothing for those who are never limited. Raises ClientDenied."""
        record.policy = policy
        ruling = self._rules.current.judge(policy, record.client)
        if ruling.refused:
            raise ClientDenied
        return ruling.charges

    def refusal_at_once(self, record: RequestRecord, charges: Sequence[Charge]) -> Refusal | None:
        """The refusal of what is known to find no room, without asking anybody."""
        decision = self._limiter.deny_locally(charges)
        return None if decision is None else self._refused(decision, record)

    async def refusal(self, record: RequestRecord, charges: Sequence[Charge]) -> Refusal | None:
        """Charge it; None lets it in, and its answer will tell what is left."""
        if not charges:
            return None
        decision = await self._limiter.take(charges)
        if not decision.allowed:
            return self._refused(decision, record)
        self._counts.decided(decision)
        record.decision = decision
        return None

    def _refused(self, decision: Decision, record: RequestRecord) -> Refusal:
        self._counts.decided(decision)
        self._counts.denied.note(record.client.principal)
        return self._refuse(decision, record)


def policy_name(request: web.Request) -> str | None:
    """The route class of the table; None is counted against no one."""
    route = request.match_info.route
    resource = route.resource
    if resource is None:
        return DEFAULT_POLICY
    if route.method == hdrs.METH_OPTIONS:
        return None  # a preflight (service.api.cors)
    return request.app[keys.ROUTE_POLICIES].get(resource.canonical, DEFAULT_POLICY)
