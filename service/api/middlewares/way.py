"""All steps of a request in one coroutine round its handler: the fast way.

Reason: nested, each step looks up again what the one before had found, and two of them need a clone
of the request between them. Here the steps are the same plain functions that the nested ones call,
in the same order; ``middlewares`` says why it is this one. Measured with all devices it brings in,
in µs of Python a request: admitted ``/health`` 25 in place of 107, a refusal 19 in place of 85; the
bare handler takes 17. The plain way: ``server.fast_answers``.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from aiohttp import web
from aiohttp.typedefs import Handler

from service.api import keys
from service.api.doorman import Doorman
from service.api.middlewares import access_line
from service.api.middlewares.admission import DEFAULT_POLICY, Gate
from service.api.middlewares.context import CLIENT_GONE, identify, known_method, record_of, stamp
from service.api.middlewares.deadline import check_late, give_budget, meaning, wanted_s
from service.api.middlewares.errors import answer_to
from service.api.middlewares.overload import turned_away
from service.api.middlewares.sweep import Sweep
from service.api.refusals import Refusals
from service.api.rendered import Rendered
from service.metrics.http import NOT_MATCHED
from service.overload.models import Priority, priority_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aiohttp.http import RawRequestMessage

    from service.admission.models import Charge
    from service.api.identity import ClientIdentity
    from service.api.keys import RequestRecord
    from service.metrics import HttpCounts
    from service.metrics.http import RouteCounts
    from service.overload.overload import Overload

    #: By method and scheme.
    _CountsByLabels = dict[tuple[str, str], RouteCounts]


class Way:
    """Puts the steps round the handlers of one application; ``limited=False``: no admission."""

    def __init__(self, counts: HttpCounts, *, limited: bool = True) -> None:
        self._counts = counts
        self._limited = limited
        self._counts_of_unmatched: _CountsByLabels = {}
        self._parts: _Parts | None = None

    def around(self, handler: Handler, *, route: str, policy: str | None) -> Handler:
        """The handler of one route of the table, with all steps before and after it."""
        stop = Stop(handler, route, policy if self._limited else None, {}, _priority(policy))
        return partial(self._serve, stop)

    def around_unmatched(self, handler: Handler) -> Handler:
        """The handler for what is in no route table."""
        policy = DEFAULT_POLICY if self._limited else None
        counts = self._counts_of_unmatched
        return partial(self._serve, Stop(handler, None, policy, counts, _priority(policy)))

    async def _serve(self, stop: Stop, request: web.Request) -> web.StreamResponse:
        parts = self._parts or self._open(request.app)
        record = identify(request, parts.identity)
        counts = stop.counts.get((request.method, request.scheme)) or self._count(stop, request)
        counts.begun += 1
        counts.in_progress += 1
        status = CLIENT_GONE
        try:
            response = await _answer(request, stop, record, parts)
            status = response.status
            counts.ended(status, record.received_s)
            if request.transport is None:
                counts.abandoned += 1
        except asyncio.CancelledError:
            counts.cancelled(record.received_s)
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
            access_line.write(
                request.method, request.rel_url, record, status, stop.route, sample=parts.sample
            )
        stamp(response, record)
        return response

    def _count(self, stop: Stop, request: web.Request) -> RouteCounts:
        labels = known_method(request), request.scheme
        counts = self._counts.of(*labels, stop.route or NOT_MATCHED)
        stop.counts[labels] = counts
        return counts

    def _open(self, app: web.Application) -> _Parts:
        """With the first request: all parts are in their places then."""
        gate = None
        if self._limited:
            counts = app[keys.METRICS].admission
            gate = Gate(
                app[keys.RULES], app[keys.LIMITER], app[keys.OVERLOAD], counts, Refusals().refuse
            )
        self._parts = _Parts(
            sweep=Sweep(asyncio.get_running_loop()),
            identity=app[keys.IDENTITY],
            gate=gate,
            timeout_s=app[keys.SERVER].request_timeout,
            sample=app[keys.LOGGING].access_sample,
        )
        return self._parts


class Stop(NamedTuple):
    """What is known of a route before any request for it comes."""

    handler: Handler
    route: str | None
    policy: str | None
    counts: _CountsByLabels
    #: None: never turned away.
    priority: Priority | None


@dataclass(frozen=True, slots=True)
class _Parts:
    """What the steps need, looked up once."""

    sweep: Sweep
    identity: ClientIdentity
    gate: Gate[Rendered] | None
    timeout_s: float
    sample: float


class _Again:
    """What a doorman asks: the same steps, for a request like one that has just been refused."""

    def __init__(
        self, stop: Stop, parts: _Parts, gate: Gate[Rendered], request: web.Request
    ) -> None:
        self._stop = stop
        self._parts = parts
        self._gate = gate
        self._counts = stop.counts[known_method(request), request.scheme]
        self._remote = request.remote

    def refuse(self, message: RawRequestMessage, lines: str) -> bytes | None:
        """The refusal, counted and told of; None: it may come in."""
        stop, parts, gate, counts = self._stop, self._parts, self._gate, self._counts
        record = record_of(message.headers, self._remote, parts.identity)
        charges = gate.charges(record, stop.policy or DEFAULT_POLICY)
        refused = gate.refusal_at_once(record, charges)
        if refused is None:
            return None
        status = refused.status
        counts.begun += 1
        counts.ended(status, record.received_s)
        access_line.write(
            message.method, message.url, record, status, stop.route, sample=parts.sample
        )
        stamp(refused, record)
        return refused.whole(lines)


def _priority(policy: str | None) -> Priority | None:
    return priority_of(policy or DEFAULT_POLICY)


async def _answer(
    request: web.Request, stop: Stop, record: RequestRecord, parts: _Parts
) -> web.StreamResponse:
    """The answer, whatever happens: errors > deadline > admission > handler."""
    gate, task, over = parts.gate, None, False
    entered: Overload | None = None
    charges: Sequence[Charge] = ()
    try:
        if gate is not None and stop.policy is not None:
            charges = gate.charges(record, stop.policy)
            # Before anything else costs: neither watched nor given a budget.
            refused = gate.refusal_at_once(record, charges)
            if refused is not None:
                Doorman.call(request, _Again(stop, parts, gate, request).refuse)
                return refused
            short = gate.overload.enter(stop.priority, record.client.principal)
            if short is not None:
                return await turned_away(gate.overload, record, short, fast=True)
            entered = gate.overload
        try:
            limit_s = wanted_s(request, parts.timeout_s)
            budget = give_budget(record, limit_s)
            task = parts.sweep.watch(budget.at_s, early=limit_s < parts.timeout_s)
            refused = None
            if charges and gate is not None:
                refused = await gate.refusal(record, charges)
            response = refused or await stop.handler(request)
        finally:
            over = parts.sweep.leave(task)
            if entered is not None:
                entered.leave(stop.priority)
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
