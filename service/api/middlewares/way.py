"""All steps of a request in one coroutine: the fast way.

Reason: five nested middlewares cost 5 to 8 µs in calls alone, look the same keys up again and
again, and need a clone of the request (24 µs) between two of them. The steps are the same plain
functions the nested ones call, in the same order; ``in_order`` says why it is this one. Together
with what each step saves: docs/benchmarks.md. The plain way: setting ``server.fast_answers``.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aiohttp import web
from aiohttp.typedefs import Handler

from service.api import keys
from service.api.middlewares import access_line
from service.api.middlewares.admission import Gate, policy_name
from service.api.middlewares.context import CLIENT_GONE, identify, known_method, stamp
from service.api.middlewares.deadline import check_late, give_budget, meaning
from service.api.middlewares.errors import answer_to
from service.api.middlewares.sweep import Sweep
from service.api.refusals import Refusals
from service.metrics.http import NOT_MATCHED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from service.admission.models import Charge
    from service.api.identity import ClientIdentity
    from service.api.keys import RequestRecord
    from service.metrics import HttpCounts
    from service.metrics.http import RouteCounts


class Way:
    """The middleware of one application; ``limited=False`` leaves admission out."""

    __middleware_version__ = 1  # what ``web.middleware`` sets on a function

    def __init__(self, counts: HttpCounts, *, limited: bool = True) -> None:
        self._counts = counts
        self._limited = limited
        self._rows: dict[tuple[object, str, str], _Row] = {}
        self._parts: _Parts | None = None

    async def __call__(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        parts = self._parts or self._open(request.app)
        record = identify(request, parts.identity)
        row = self._row(request)
        counts = row.counts
        counts.begun += 1
        counts.in_progress += 1
        status = CLIENT_GONE
        try:
            response = await _answer(request, handler, record, row.policy, parts)
            status = response.status
            counts.ended(status, record.received_s)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            status = error.status if isinstance(error, web.HTTPException) else 500
            counts.failed(error, status, record.received_s)
            raise
        except BaseException:
            status = 500
            raise
        finally:
            counts.in_progress -= 1
            access_line.write(request, record, status, sample=parts.sample)
        stamp(response, record)
        return response

    def _row(self, request: web.Request) -> _Row:
        resource = request.match_info.route.resource
        key = (resource, known_method(request), request.scheme)
        row = self._rows.get(key)
        if row is None:
            template = resource.canonical if resource else NOT_MATCHED
            policy = policy_name(request) if self._limited else None
            row = self._rows[key] = _Row(self._counts.of(*key[1:], template), policy)
        return row

    def _open(self, app: web.Application) -> _Parts:
        """With the first request: all parts are in their places then."""
        gate = None
        if self._limited:
            counts = app[keys.METRICS].admission
            gate = Gate(app[keys.RULES], app[keys.LIMITER], counts, Refusals().refuse)
        self._parts = _Parts(
            sweep=Sweep(asyncio.get_running_loop()),
            identity=app[keys.IDENTITY],
            gate=gate,
            timeout_s=app[keys.SERVER].request_timeout,
            sample=app[keys.LOGGING].access_sample,
        )
        return self._parts


@dataclass(frozen=True, slots=True)
class _Row:
    """What is known of a method on a route before a request is looked at."""

    counts: RouteCounts
    policy: str | None


@dataclass(frozen=True, slots=True)
class _Parts:
    """What the steps need, looked up once."""

    sweep: Sweep
    identity: ClientIdentity
    gate: Gate | None
    timeout_s: float
    sample: float


async def _answer(
    request: web.Request,
    handler: Handler,
    record: RequestRecord,
    policy: str | None,
    parts: _Parts,
) -> web.StreamResponse:
    """The answer, whatever happens: errors > deadline > admission > handler."""
    gate, task, over = parts.gate, None, False
    charges: Sequence[Charge] = ()
    try:
        if gate is not None and policy is not None:
            charges = gate.charges(record, policy)
            # Before anything else costs: neither watched nor given a budget.
            refused = gate.refusal_at_once(record, charges)
            if refused is not None:
                return refused
        budget = give_budget(record, parts.timeout_s)
        task = parts.sweep.watch(budget.at_s)
        try:
            refused = None
            if charges and gate is not None:
                refused = await gate.refusal(record, charges)
            response = refused or await handler(request)
        finally:
            over = parts.sweep.leave(task)
        if over:
            check_late(response)
        return response
    except (Exception, asyncio.CancelledError) as error:
        meant = meaning(error, task, over=over)
        if meant is not None:
            meant.__cause__ = error
            return answer_to(meant, request)
        if isinstance(error, asyncio.CancelledError):
            raise
        return answer_to(error, request)
