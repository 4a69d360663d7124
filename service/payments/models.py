"""Payments as the rest of the service knows them: frozen values with units in their names."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

V1 = "Web3CardanoV1"
V2 = "Web3CardanoV2"
#: Listings show V1 only unless a type is named, so both are always named.
SOURCE_TYPES = (V1, V2)
#: The end of the year 9999: with later times neither Python nor PostgreSQL can reckon.
LATEST_MS = 253_402_300_799_999


@dataclass(frozen=True, slots=True)
class Fund:
    """So much of one unit, in the chain's own smallest denomination."""

    amount: str
    unit: str


@dataclass(frozen=True, slots=True)
class PaymentOrder:
    """What one payment is asked for. ``requested_funds`` only where pricing is dynamic."""

    job_id: UUID
    agent_identifier: str
    identifier_from_purchaser: str
    input_hash: str
    pay_by: datetime
    submit_by: datetime
    requested_funds: tuple[Fund, ...] = ()
    payment_source_type: str | None = None
    supported_payment_source_index: int | None = None

    @property
    def metadata(self) -> str:
        """The only handle by which an unanswered create can be found again."""
        return str(self.job_id)


@dataclass(frozen=True, slots=True)
class Payment:
    """One payment as the payment service last described it.

    Times are its own milliseconds, verbatim: they are inside a signature the purchaser verifies.
    ``updated_at`` and ``last_changed_at`` stay text for the same reason: they are sent back as is.
    """

    id: str
    blockchain_identifier: str
    agent_identifier: str
    pay_by_time_ms: int | None
    submit_result_time_ms: int
    unlock_time_ms: int
    external_dispute_unlock_time_ms: int
    #: Empty where the service named no selling wallet.
    seller_vkey: str
    #: None: not seen on chain.
    on_chain_state: str | None
    next_action: str
    error_type: str | None
    error_note: str | None
    result_hash: str | None
    #: The hash of a submission that is still under way.
    next_action_result_hash: str | None
    metadata: str | None
    payment_source_type: str
    created_at: datetime
    updated_at: str
    last_changed_at: str

    @property
    def payable(self) -> bool:
        """Whether it has everything a purchaser needs to pay it, and times that can come."""
        latest_ms = max(
            self.pay_by_time_ms or 0,
            self.submit_result_time_ms,
            self.unlock_time_ms,
            self.external_dispute_unlock_time_ms,
        )
        named = self.seller_vkey and self.agent_identifier and self.pay_by_time_ms
        return bool(named) and latest_ms <= LATEST_MS

    def has_result(self, result_hash: str) -> bool:
        """Whether this result is on chain already or on its way there."""
        on_its_way = self.next_action.startswith("SubmitResult")
        return self.result_hash == result_hash or (
            on_its_way and self.next_action_result_hash == result_hash
        )


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A row of a list that is no payment as we know them; None: that part cannot be read either."""

    id: str | None
    #: Empty where there certainly is none.
    metadata: str | None
    created_at: datetime | None
    last_changed_at: str | None
    #: Where it first breaks our idea of a payment, and how; never what stands there.
    fault: str


@dataclass(frozen=True, slots=True)
class Watermark:
    """How far the change feed has been read: changes before ``last_update`` are known.

    The feed is inclusive, so what changed exactly then is delivered again: take it idempotently.
    ``cursor_id`` is set only inside a run of changes that share one moment.
    """

    last_update: str
    cursor_id: str | None = None

    @classmethod
    def at(cls, moment: datetime) -> Watermark:
        return cls(iso_utc(moment))

    def rewound(self, seconds: float) -> Watermark:
        """The same, some time earlier: for changes that were committed out of order."""
        moment = datetime.fromisoformat(self.last_update)
        return Watermark.at(moment - timedelta(seconds=seconds))


@dataclass(frozen=True, slots=True)
class ChangePage:
    """Changes in the order they happened; ``complete`` when nothing newer was known."""

    payments: tuple[Payment, ...]
    next: Watermark
    complete: bool


@dataclass(frozen=True, slots=True)
class KeyStatus:
    """What the configured API key may do."""

    active: bool
    can_read: bool
    can_pay: bool
    networks: tuple[str, ...]


def iso_utc(moment: datetime) -> str:
    """``2026-01-31T23:59:59.000Z``: the payment service refuses the spelling ``+00:00``."""
    if moment.tzinfo is None:
        raise ValueError("a time without a zone is not a moment")
    text = moment.astimezone(UTC).isoformat(timespec="milliseconds")
    return text.removesuffix("+00:00") + "Z"
