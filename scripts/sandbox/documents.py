"""The sandbox's answers: every key of the real service's documents, always there."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import Any

from scripts.sandbox.identifiers import SELLER_VKEY
from scripts.sandbox.records import Chain, Record

KEY_ID = "csandboxapikey0000000000"
WALLET_ID = "csandboxwallet0000000000"
BUYER_VKEY = hashlib.sha256(b"tollgate sandbox buying wallet").hexdigest()[:56]
#: What a run costs where the registry holds the price.
FIXED_PRICE = {"amount": "1000000", "unit": ""}


def iso(ms: int) -> str:
    moment = datetime.fromtimestamp(ms / 1000, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{ms % 1000:03d}Z"


def payment(record: Record, chain: Chain) -> dict[str, Any]:
    """As POST /payment answers it."""
    terms = record.terms
    return {
        "id": record.id,
        "createdAt": iso(record.created_ms),
        "updatedAt": iso(chain.at_ms),
        "blockchainIdentifier": record.blockchain_identifier,
        "agentIdentifier": terms.agent_identifier,
        "agentName": terms.agent_name,
        "pricingType": terms.pricing,
        "lastCheckedAt": None,
        "payByTime": str(terms.pay_by_ms),
        "submitResultTime": str(terms.submit_result_ms),
        "unlockTime": str(terms.unlock_ms),
        "externalDisputeUnlockTime": str(terms.dispute_ms),
        "collateralReturnLovelace": None,
        "buyerReturnAddress": None,
        "sellerReturnAddress": terms.return_address,
        "requestedById": KEY_ID,
        "inputHash": terms.input_hash,
        "resultHash": chain.result_hash,
        "nextActionLastChangedAt": iso(chain.action_at_ms),
        "onChainStateOrResultLastChangedAt": iso(chain.chain_at_ms),
        "nextActionOrOnChainStateOrResultLastChangedAt": iso(chain.at_ms),
        "onChainState": chain.state,
        "NextAction": {
            "requestedAction": chain.action,
            "errorType": chain.error_type,
            "errorNote": chain.error_note,
            "resultHash": chain.action_hash,
        },
        "CurrentTransaction": _transaction(record, chain),
        "RequestedFunds": _funds(record),
        "WithdrawnForSeller": _funds(record) if chain.state == "Withdrawn" else [],
        "WithdrawnForBuyer": _funds(record) if chain.state == "RefundWithdrawn" else [],
        "PaymentSource": source(terms.network, terms.source_type, terms.agent_identifier),
        "BuyerWallet": {"id": "csandboxbuyer00000000000", "walletVkey": BUYER_VKEY}
        if chain.paid
        else None,
        "SmartContractWallet": {
            "id": WALLET_ID,
            "walletVkey": SELLER_VKEY,
            "walletAddress": "addr_test1" + SELLER_VKEY,
        },
        "metadata": terms.metadata,
        "totalBuyerCardanoFees": 0,
        "totalSellerCardanoFees": 0,
        "cooldownTime": 0,
        "cooldownTimeOtherParty": 0,
    }


def listed(record: Record, chain: Chain, *, history: bool) -> dict[str, Any]:
    """As every read answers it: with two keys more."""
    past = [c for c in record.history if c.at_ms <= chain.at_ms] if history else []
    return payment(record, chain) | {
        "ActionHistory": [_action(c) for c in past] if history else None,
        "TransactionHistory": [
            document for c in past if (document := _transaction(record, c)) is not None
        ]
        if history
        else None,
    }


def source(network: str, source_type: str, agent_identifier: str | None = None) -> dict[str, Any]:
    return {
        "id": "csandboxsource" + source_type[-2:].lower(),
        "network": network,
        "paymentSourceType": source_type,
        "smartContractAddress": "addr_test1sandbox" + source_type[-2:].lower(),
        "policyId": agent_identifier[:56] if agent_identifier else None,
    }


def api_key(*, network: str, can_pay: bool) -> dict[str, Any]:
    return {
        "id": KEY_ID,
        "canRead": True,
        "canPay": can_pay,
        "canAdmin": False,
        "permission": "ReadAndPay" if can_pay else "Read",
        "usageLimited": False,
        "NetworkLimit": [network],
        "RemainingUsageCredits": [],
        "walletScopeEnabled": False,
        "WalletScopes": [],
        "status": "Active",
    }


def _action(chain: Chain) -> dict[str, Any]:
    return {
        "requestedAction": chain.action,
        "errorType": chain.error_type,
        "errorNote": chain.error_note,
        "resultHash": chain.action_hash,
    }


def _transaction(record: Record, chain: Chain) -> dict[str, Any] | None:
    if chain.transaction is None:
        return None
    name = f"{record.id}{chain.transactions}"
    confirmed = chain.transaction == "Confirmed"
    return {
        "id": f"{record.id[:20]}t{chain.transactions:02d}",
        "createdAt": iso(chain.at_ms),
        "updatedAt": iso(chain.at_ms),
        "fees": "180000" if confirmed else None,
        "blockHeight": chain.at_ms // 20_000 if confirmed else None,
        "blockTime": chain.at_ms // 1000 if confirmed else None,
        "txHash": hashlib.sha256(name.encode()).hexdigest(),
        "status": chain.transaction,
        "previousOnChainState": None,
        "newOnChainState": chain.state,
        "confirmations": 1 if confirmed else None,
    }


def _funds(record: Record) -> list[dict[str, str]]:
    if not record.terms.funds:
        return [FIXED_PRICE]
    return [{"amount": amount, "unit": unit} for amount, unit in record.terms.funds]
