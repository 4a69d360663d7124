"""The seller's routes: ask for a payment, read payments, hand in a result, give money back."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import datetime
from typing import Any

from aiohttp import web

from scripts.sandbox import documents, life
from scripts.sandbox.agents import agree
from scripts.sandbox.keys import FAULTS, SANDBOX, Sandbox
from scripts.sandbox.ledger import Filter
from scripts.sandbox.records import MANUAL, V1, V2, WAITING, Chain, Record
from scripts.sandbox.replies import success
from scripts.sandbox.requests import (
    About,
    Lookup,
    NewPayment,
    Recovery,
    Refusal,
    Submission,
    parse,
)

FEEDS: dict[str, Callable[[Chain], int]] = {
    "/payment/diff": lambda chain: chain.at_ms,
    "/payment/diff/next-action": lambda chain: chain.action_at_ms,
    "/payment/diff/onchain-state-or-result": lambda chain: chain.chain_at_ms,
}


async def create(request: web.Request) -> web.Response:
    sandbox = request.app[SANDBOX]
    asked = parse(NewPayment, await request.read())
    sandbox.check_network(asked.network)
    agent = sandbox.agents.get(asked.agent_identifier)
    terms = agree(asked, agent, sandbox.ledger.now_ms())
    record = sandbox.ledger.create(terms)
    return success(documents.payment(record, record.now))


async def newest(request: web.Request) -> web.Response:
    sandbox = request.app[SANDBOX]
    wanted, horizon_ms = _filter(request, sandbox), _horizon_ms(request, sandbox)
    page = sandbox.ledger.newest(
        wanted, limit=_limit(request), cursor=request.query.get("cursorId")
    )
    return _listed(request, page, horizon_ms)


async def count(request: web.Request) -> web.Response:
    sandbox = request.app[SANDBOX]
    wanted = _filter(request, sandbox)
    total = sum(1 for record in sandbox.ledger.oldest() if wanted(record, record.now))
    return success({"total": total})


async def changed(request: web.Request) -> web.Response:
    sandbox = request.app[SANDBOX]
    horizon_ms = _horizon_ms(request, sandbox)
    feed = request.path.rstrip("/").removeprefix("/api/v1")
    page = sandbox.ledger.changed(
        _filter(request, sandbox),
        since_ms=_since_ms(request),
        limit=_limit(request),
        cursor=request.query.get("cursorId"),
        horizon_ms=horizon_ms,
        moment=FEEDS[feed],
    )
    return _listed(request, page, horizon_ms)


async def resolve(request: web.Request) -> web.Response:
    sandbox = request.app[SANDBOX]
    asked = parse(Lookup, await request.read())
    record = _known(sandbox, asked)
    chain = record.seen(_horizon_ms(request, sandbox))
    return success(documents.listed(record, chain, history=asked.include_history == "true"))


async def submit_result(request: web.Request) -> web.Response:
    sandbox = request.app[SANDBOX]
    asked = parse(Submission, await request.read())
    record = _known(sandbox, asked)
    now = record.now
    ready = (
        now.state in {"FundsLocked", "RefundRequested", "Disputed"}
        and now.action == WAITING
        and now.transaction is not None
    )
    if not ready:
        raise Refusal(404, "Payment not found or in invalid state")
    at_ms, ledger = sandbox.ledger.now_ms(), sandbox.ledger
    if any(fault.kind == "interrupt" for fault in request[FAULTS]):
        ledger.change(record, lambda r: life.interrupt(r, asked.submit_result_hash, at_ms))
    else:
        ledger.change(
            record, lambda r: life.submit(r, asked.submit_result_hash, at_ms, ledger.pace)
        )
    return success(documents.payment(record, record.now))


async def authorize_refund(request: web.Request) -> web.Response:
    sandbox = request.app[SANDBOX]
    record = _known(sandbox, parse(About, await request.read()))
    allowed = {"Disputed", "RefundRequested"}
    if record.terms.source_type == V2:
        allowed |= {"FundsLocked", "ResultSubmitted"}
    if record.now.state not in allowed or record.now.action != WAITING:
        raise Refusal(404, "Payment not found or in invalid state")
    at_ms, pace = sandbox.ledger.now_ms(), sandbox.ledger.pace
    sandbox.ledger.change(record, lambda r: life.authorize_refund(r, at_ms, pace))
    return success(documents.payment(record, record.now))


async def recover(request: web.Request) -> web.Response:
    sandbox = request.app[SANDBOX]
    asked = parse(Recovery, await request.read())
    record = _known(sandbox, asked)
    now = record.now
    if now.action != MANUAL:
        raise Refusal(400, "Payment is not in WaitingForManualAction")
    if now.error_type is None:
        raise Refusal(400, "Payment is not in an error state")
    if now.state is None:
        raise Refusal(400, "Payment is in its initial state")
    if asked.retry_previous_action and record.interrupted is None:
        raise Refusal(400, "There is no previous action to try again")
    if asked.updated_at != documents.iso(now.at_ms):
        raise Refusal(409, "Payment has been changed since")
    at_ms, pace = sandbox.ledger.now_ms(), sandbox.ledger.pace
    again = asked.retry_previous_action
    sandbox.ledger.change(record, lambda r: life.recover(r, at_ms, pace, again=again))
    return success(documents.listed(record, record.now, history=False))


async def key_status(request: web.Request) -> web.Response:
    sandbox = request.app[SANDBOX]
    pays = sandbox.may_pay(request.headers.get("token"))
    return success(documents.api_key(network=sandbox.network, can_pay=pays))


async def sources(request: web.Request) -> web.Response:
    network = request.app[SANDBOX].network
    return success({"PaymentSources": [documents.source(network, kind) for kind in (V1, V2)]})


async def registered(request: web.Request) -> web.Response:
    sandbox = request.app[SANDBOX]
    identifier = request.query.get("agentIdentifier", "")
    if not 57 <= len(identifier) <= 250:
        raise Refusal(400, "agentIdentifier: must have 57 to 250 characters")
    sandbox.check_network(request.query.get("network", ""))
    agent = sandbox.agents.get(identifier)
    if agent.trouble is not None:
        raise Refusal(404, "Agent identifier not found")
    pricing: dict[str, Any] = {"pricingType": agent.pricing}
    if agent.pricing == "Fixed":
        pricing["Pricing"] = [documents.FIXED_PRICE]
    return success(
        {
            "policyId": identifier[:56],
            "assetName": identifier[56:],
            "agentIdentifier": identifier,
            "Metadata": {"name": agent.name, "AgentPricing": pricing, "metadataVersion": 1},
        }
    )


async def health(_: web.Request) -> web.Response:
    return success({"status": "ok"})


def _known(sandbox: Sandbox, asked: About) -> Record:
    sandbox.check_network(asked.network)
    record = sandbox.ledger.by_identifier(asked.blockchain_identifier)
    if record is None:
        raise Refusal(404, "Payment not found")
    return record


def _listed(request: web.Request, page: list[Record], horizon_ms: int) -> web.Response:
    history = request.query.get("includeHistory", "false") == "true"
    rows = [documents.listed(r, r.seen(horizon_ms), history=history) for r in page]
    return success({"Payments": rows})


def _limit(request: web.Request) -> int:
    text = request.query.get("limit", "10")
    if not text.isdecimal() or not 1 <= int(text) <= 100:
        raise Refusal(400, "limit: must be a number from 1 to 100")
    return int(text)


def _since_ms(request: web.Request) -> int:
    text = request.query.get("lastUpdate", "1970-01-01T00:00:00.000Z")
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise Refusal(400, "lastUpdate: Invalid ISO date") from error
    if not text.endswith("Z") or moment.tzinfo is None:
        raise Refusal(400, "lastUpdate: Invalid ISO date")
    return round(moment.timestamp() * 1000)


def _horizon_ms(request: web.Request, sandbox: Sandbox) -> int:
    """How much of the world reads see: all of it, unless a fault lets them lag."""
    lags_s = [fault.seconds for fault in request[FAULTS] if fault.kind == "stale"]
    return sandbox.ledger.now_ms() - round(max(lags_s) * 1000) if lags_s else sys.maxsize


def _filter(request: web.Request, sandbox: Sandbox) -> Filter:
    query = request.query
    sandbox.check_network(query.get("network", ""))
    # Without a type only V1 is shown: a trap of the real service.
    source_type = query.get("filterPaymentSourceType", V1)
    state, manual = query.get("filterOnChainState"), query.get("filterNeedsManualAction")
    address, search = query.get("filterSmartContractAddress"), query.get("searchQuery")

    def wanted(record: Record, chain: Chain) -> bool:
        terms = record.terms
        where = documents.source(terms.network, terms.source_type)["smartContractAddress"]
        # Neither the blockchain identifier nor the metadata can be searched.
        text = f"{record.id} {terms.agent_identifier} {terms.agent_name} {chain.state}"
        return (
            terms.source_type == source_type
            and (state is None or chain.state == state)
            and (address is None or where == address)
            and (manual is None or (chain.action == MANUAL) == (manual == "true"))
            and (search is None or search.lower() in text.lower())
        )

    return wanted
