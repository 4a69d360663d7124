"""One payment in the sandbox: the terms that never change, and every state it has been in."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any

WAITING = "WaitingForExternalAction"
MANUAL = "WaitingForManualAction"
V1 = "Web3CardanoV1"
V2 = "Web3CardanoV2"


@dataclass(frozen=True, slots=True)
class Terms:
    """What was agreed when the payment was asked for; the times are part of the signature."""

    network: str
    agent_identifier: str
    agent_name: str
    input_hash: str
    identifier_from_purchaser: str
    pay_by_ms: int
    submit_result_ms: int
    unlock_ms: int
    dispute_ms: int
    pricing: str
    source_type: str
    source_index: int | None = None
    #: (amount, unit) pairs.
    funds: tuple[tuple[str, str], ...] = ()
    metadata: str | None = None
    return_address: str | None = None


@dataclass(frozen=True, slots=True)
class Chain:
    """What the service knows of a payment from one moment on."""

    at_ms: int
    action_at_ms: int
    chain_at_ms: int
    state: str | None = None
    action: str = WAITING
    action_hash: str | None = None
    error_type: str | None = None
    error_note: str | None = None
    result_hash: str | None = None
    #: Status of the current transaction, and how many there have been.
    transaction: str | None = None
    transactions: int = 0
    paid: bool = False


@dataclass(slots=True)
class Record:
    id: str
    blockchain_identifier: str
    created_ms: int
    terms: Terms
    history: list[Chain]
    #: What time will do to it: event -> when.
    due: dict[str, int] = field(default_factory=dict)
    #: Every result hash that was accepted.
    submitted: list[str] = field(default_factory=list)
    #: Whether the purchaser has asked for it to be paid.
    purchased: bool = False
    #: The action before the error state, for a recovery that tries it again.
    interrupted: str | None = None

    @property
    def now(self) -> Chain:
        return self.history[-1]

    def seen(self, horizon_ms: int) -> Chain:
        """As it stood at that time; a payment younger than that, as it began."""
        for chain in reversed(self.history):
            if chain.at_ms <= horizon_ms:
                return chain
        return self.history[0]

    def become(self, at_ms: int, **changes: Any) -> None:
        """Enter a new state. Its moments never repeat, so that each change can be told apart."""
        old = self.now
        at_ms = max(at_ms, old.at_ms + 1)
        action = {"action", "action_hash", "error_type", "error_note"} & changes.keys()
        chain = {"state", "result_hash"} & changes.keys()
        self.history.append(
            replace(
                old,
                at_ms=at_ms,
                action_at_ms=at_ms if action else old.action_at_ms,
                chain_at_ms=at_ms if chain else old.chain_at_ms,
                **changes,
            )
        )

    def document(self) -> dict[str, Any]:
        """For the journal; ``from_document`` is its reverse."""
        return asdict(self)

    @classmethod
    def from_document(cls, document: dict[str, Any]) -> Record:
        terms = dict(document["terms"])
        terms["funds"] = tuple((amount, unit) for amount, unit in terms["funds"])
        history = [Chain(**chain) for chain in document["history"]]
        return cls(**{**document, "terms": Terms(**terms), "history": history})
