"""``/control``: order faults, move payments and the clock, read the books. For tests and drills."""

from __future__ import annotations

import time
from typing import Annotated, Any

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field

from scripts.sandbox import documents, life
from scripts.sandbox.agents import Agent
from scripts.sandbox.faults import Fault
from scripts.sandbox.keys import SANDBOX, Sandbox
from scripts.sandbox.records import Record
from scripts.sandbox.requests import Refusal, parse

ACTIONS: dict[str, life.Event] = {
    "lock": life.lock,
    "invalidate": life.invalidate,
    "request-refund": life.request_refund,
    "cancel-refund": life.cancel_refund,
    "rollback": life.rollback,
}


class _Order(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Advance(_Order):
    seconds: Annotated[float, Field(ge=0)]


class PaceOrder(_Order):
    """Only what is named changes; ``pay_after_s: null`` lets nobody pay by itself."""

    pay_after_s: Annotated[float | None, Field(ge=0)] = None
    confirm_after_s: Annotated[float | None, Field(ge=0)] = None


class AgentOrder(_Order):
    agent_identifier: str
    agent: Agent


async def books(request: web.Request) -> web.Response:
    """Every payment and every call: what really happened."""
    sandbox = request.app[SANDBOX]
    payments = [_entry(record) for record in sandbox.ledger.oldest()]
    return web.json_response(
        {
            "now": documents.iso(sandbox.ledger.now_ms()),
            "payments": payments,
            "calls": dict(sandbox.calls),
        }
    )


async def calls(request: web.Request) -> web.Response:
    """Every call of late: when it came, and when it was answered."""
    sandbox = request.app[SANDBOX]
    entries = [{"route": c.route, "came_s": c.came_s, "left_s": c.left_s} for c in sandbox.diary]
    return web.json_response({"now_s": time.monotonic(), "calls": entries})


async def add_fault(request: web.Request) -> web.Response:
    request.app[SANDBOX].faults.add(parse(Fault, await request.read()))
    return _faults(request.app[SANDBOX])


async def list_faults(request: web.Request) -> web.Response:
    return _faults(request.app[SANDBOX])


async def clear_faults(request: web.Request) -> web.Response:
    request.app[SANDBOX].faults.clear()
    return _faults(request.app[SANDBOX])


async def act(request: web.Request) -> web.Response:
    """Something happens to one payment, named by its id, identifier or metadata."""
    sandbox = request.app[SANDBOX]
    action = ACTIONS.get(request.match_info["action"])
    record = sandbox.ledger.get(request.match_info["payment"])
    if action is None or record is None:
        raise Refusal(404, "No such payment or action; actions: " + ", ".join(ACTIONS))
    at_ms = sandbox.ledger.now_ms()
    try:
        sandbox.ledger.change(record, lambda r: action(r, at_ms))
    except ValueError as error:
        raise Refusal(409, str(error)) from error
    return web.json_response(_entry(record))


async def advance_clock(request: web.Request) -> web.Response:
    ledger = request.app[SANDBOX].ledger
    ledger.advance(round(parse(Advance, await request.read()).seconds * 1000))
    return web.json_response({"now": documents.iso(ledger.now_ms())})


async def set_pace(request: web.Request) -> web.Response:
    """For payments made from now on, and results handed in from now on."""
    pace = request.app[SANDBOX].ledger.pace
    order = parse(PaceOrder, await request.read())
    if "pay_after_s" in order.model_fields_set:
        pay_s = order.pay_after_s
        pace.pay_after_ms = None if pay_s is None else round(pay_s * 1000)
    if order.confirm_after_s is not None:
        pace.confirm_after_ms = round(order.confirm_after_s * 1000)
    return web.json_response(
        {"pay_after_ms": pace.pay_after_ms, "confirm_after_ms": pace.confirm_after_ms}
    )


async def put_agent(request: web.Request) -> web.Response:
    order = parse(AgentOrder, await request.read())
    request.app[SANDBOX].agents.put(order.agent_identifier, order.agent)
    return web.json_response(order.model_dump())


def _faults(sandbox: Sandbox) -> web.Response:
    return web.json_response([fault.model_dump() for fault in sandbox.faults.active])


def _entry(record: Record) -> dict[str, Any]:
    now = record.now
    return {
        "id": record.id,
        "blockchainIdentifier": record.blockchain_identifier,
        "agentIdentifier": record.terms.agent_identifier,
        "metadata": record.terms.metadata,
        "createdAt": documents.iso(record.created_ms),
        "purchased": record.purchased,
        "onChainState": now.state,
        "nextAction": now.action,
        "resultHash": now.result_hash,
        "submitted": record.submitted,
    }
