"""The purchaser's routes: pay, ask for the money back, think better of it."""

from __future__ import annotations

from dataclasses import replace

from aiohttp import web

from scripts.sandbox import documents, life
from scripts.sandbox.identifiers import SELLER_VKEY, verifies
from scripts.sandbox.keys import SANDBOX, Sandbox
from scripts.sandbox.records import Record
from scripts.sandbox.replies import success
from scripts.sandbox.requests import About, NewPurchase, Refusal, parse


async def purchase(request: web.Request) -> web.Response:
    """Lock the funds, if the terms are to the digit those the seller's side signed."""
    sandbox = request.app[SANDBOX]
    asked = parse(NewPurchase, await request.read())
    record = _payment(sandbox, asked)
    now_ms = sandbox.ledger.now_ms()
    told = replace(
        record.terms,
        input_hash=asked.input_hash,
        agent_identifier=asked.agent_identifier,
        identifier_from_purchaser=asked.identifier_from_purchaser,
        pay_by_ms=asked.pay_by_time,
        submit_result_ms=asked.submit_result_time,
        unlock_ms=asked.unlock_time,
        dispute_ms=asked.external_dispute_unlock_time,
    )
    if asked.seller_vkey != SELLER_VKEY or not verifies(asked.blockchain_identifier, told):
        raise Refusal(400, "Invalid blockchain identifier, signature invalid")
    if record.purchased:
        document = _document(record)
        raise Refusal(409, "Purchase exists", id=document["id"], object=document)
    if asked.pay_by_time < now_ms:
        raise Refusal(400, "Pay by time is in the past")
    at_ms = now_ms + sandbox.ledger.pace.confirm_after_ms
    sandbox.ledger.change(record, lambda r: life.purchase(r, at_ms))
    return success(_document(record))


async def request_refund(request: web.Request) -> web.Response:
    return await _act(request, life.request_refund)


async def cancel_refund(request: web.Request) -> web.Response:
    return await _act(request, life.cancel_refund)


async def _act(request: web.Request, act: life.Event) -> web.Response:
    sandbox = request.app[SANDBOX]
    asked = parse(About, await request.read())
    record = _payment(sandbox, asked)
    at_ms = sandbox.ledger.now_ms()
    try:
        sandbox.ledger.change(record, lambda r: act(r, at_ms))
    except ValueError as error:
        raise Refusal(404, "Purchase not found or in invalid state") from error
    return success(_document(record))


def _payment(sandbox: Sandbox, asked: About) -> Record:
    sandbox.check_network(asked.network)
    record = sandbox.ledger.by_identifier(asked.blockchain_identifier)
    if record is None:  # sealed by somebody else, or by nobody
        raise Refusal(400, "Invalid blockchain identifier, signature invalid")
    return record


def _document(record: Record) -> dict[str, object]:
    shown = documents.listed(record, record.now, history=False)
    return shown | {"id": "p" + record.id[1:], "SellerWallet": shown["SmartContractWallet"]}
