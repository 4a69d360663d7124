"""The agents the sandbox sells for, and the checks of a new payment in the real service's order.

Any well-formed identifier is sold at a fixed price unless ``/control/agents`` says otherwise.
"""

from __future__ import annotations

import string
from typing import Literal

from pydantic import BaseModel, ConfigDict

from scripts.sandbox.records import V1, V2, Terms
from scripts.sandbox.requests import NewPayment, Refusal, SourceType

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
POLICY_CHARACTERS = 56


class Agent(BaseModel):
    """What the registry, or the world, holds for one agent identifier."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = "Sandbox agent"
    pricing: Literal["Fixed", "Dynamic", "Free"] = "Fixed"
    #: None: sold through either.
    source_type: SourceType | None = None
    #: unknown: no such policy; missing: not found; broken: the look-up fails; unowned: no wallet.
    trouble: Literal["unknown", "missing", "broken", "unowned"] | None = None


class Agents:
    def __init__(self) -> None:
        self._special: dict[str, Agent] = {}

    def put(self, agent_identifier: str, agent: Agent) -> None:
        self._special[agent_identifier] = agent

    def get(self, agent_identifier: str) -> Agent:
        if agent_identifier in self._special:
            return self._special[agent_identifier]
        hexadecimal = _is_hex(agent_identifier[:POLICY_CHARACTERS])
        return Agent() if hexadecimal else Agent(trouble="unknown")


def agree(asked: NewPayment, agent: Agent, now_ms: int) -> Terms:
    """The payment's terms; raises Refusal at the first check that fails."""
    source_type = asked.payment_source_type or V1
    if agent.trouble == "unknown":
        raise Refusal(404, "Network and policyId combination not supported")
    if agent.source_type not in {None, source_type}:
        raise Refusal(400, "Payment source type does not match the agent's")
    for value in (asked.input_hash, asked.identifier_from_purchaser):
        if len(value) % 2 or not _is_hex(value):
            raise Refusal(400, "Input hash or identifier is not a valid hex string")
    unlock_ms, dispute_ms = _checked_times(asked, now_ms)
    _check_agent(agent)
    if source_type == V2 and asked.supported_payment_source_index is None:
        raise Refusal(400, "supportedPaymentSourceIndex is required for Web3CardanoV2")
    if source_type == V1 and asked.supported_payment_source_index is not None:
        raise Refusal(400, "supportedPaymentSourceIndex is not allowed for Web3CardanoV1")
    _check_price(asked, agent)
    if agent.trouble == "unowned":
        raise Refusal(404, "Agent identifier not found in selling wallets")
    return Terms(
        network=asked.network,
        agent_identifier=asked.agent_identifier,
        agent_name=agent.name,
        input_hash=asked.input_hash,
        identifier_from_purchaser=asked.identifier_from_purchaser,
        pay_by_ms=asked.pay_by_time,
        submit_result_ms=asked.submit_result_time,
        unlock_ms=unlock_ms,
        dispute_ms=dispute_ms,
        pricing=agent.pricing,
        source_type=source_type,
        source_index=asked.supported_payment_source_index,
        funds=tuple(
            (fund.amount, "" if fund.unit == "lovelace" else fund.unit)
            for fund in asked.requested_funds or ()
        ),
        metadata=asked.metadata,
        return_address=asked.seller_return_address,
    )


def _checked_times(asked: NewPayment, now_ms: int) -> tuple[int, int]:
    pay_by, submit = asked.pay_by_time, asked.submit_result_time
    unlock, dispute = asked.unlock_time, asked.external_dispute_unlock_time
    unlock_ms = submit + 6 * HOUR_MS if unlock is None else unlock
    dispute_ms = submit + 12 * HOUR_MS if dispute is None else dispute
    for holds, message in (
        (pay_by <= submit - 5 * MINUTE_MS, "Pay by time must be 5 min before submit result time"),
        (pay_by >= now_ms - 5 * MINUTE_MS, "Pay by time must be in the future"),
        (dispute_ms >= unlock_ms + 15 * MINUTE_MS, "Dispute time must be 15 min after unlock time"),
        (submit >= now_ms + 15 * MINUTE_MS, "Submit result time must be 15 min in the future"),
        (unlock_ms >= submit + 15 * MINUTE_MS, "Unlock time must be 15 min after submit time"),
    ):
        if not holds:
            raise Refusal(400, message)
    return unlock_ms, dispute_ms


def _check_agent(agent: Agent) -> None:
    if agent.trouble == "missing":
        raise Refusal(404, "Agent identifier not found")
    if agent.trouble == "broken":
        raise Refusal(500, "Error fetching agent identifier")


def _check_price(asked: NewPayment, agent: Agent) -> None:
    if agent.pricing == "Free":
        raise Refusal(400, "Free agents take no payments")
    if agent.pricing == "Fixed" and asked.requested_funds:
        raise Refusal(400, "For fixed pricing, RequestedFunds must be empty")
    if agent.pricing == "Dynamic" and not asked.requested_funds:
        raise Refusal(400, "For dynamic pricing, RequestedFunds must be provided")


def _is_hex(text: str) -> bool:
    return bool(text) and set(text) <= set(string.hexdigits)
