"""The payment service's JSON, parsed straight from bytes into our own values.

Unknown keys are ignored and unknown states kept as text: the service grows, and a word we do not
know yet must not lose the payment it is said about.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    TypeAdapter,
    ValidationError,
)
from pydantic.alias_generators import to_camel

from service.payments.models import V1, KeyStatus, Payment, Unreadable

Data = TypeVar("Data")
Part = TypeVar("Part")

_DIGITS = re.compile(r"[0-9]{1,16}")


def _milliseconds(value: object) -> object:
    """``"1735689600000"`` and nothing looser: no sign, blank, fraction or underscore."""
    if isinstance(value, str) and _DIGITS.fullmatch(value):
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise ValueError("must be a whole number of milliseconds as text")


def _aware(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _instant(text: str) -> str:
    """As it is, for it is sent back so; but a moment that can be compared with others."""
    if datetime.fromisoformat(text).tzinfo is None:
        raise ValueError("must have a time zone")
    return text


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


Milliseconds = Annotated[int, BeforeValidator(_milliseconds), Field(ge=0)]
Moment = Annotated[datetime, AfterValidator(_aware)]
Text = Annotated[str, Field(min_length=1)]
ChangedAt = Annotated[Text, AfterValidator(_instant)]


class Document(BaseModel):
    model_config = ConfigDict(
        frozen=True,
        extra="ignore",
        alias_generator=to_camel,
        hide_input_in_errors=True,
    )


class Answer(Document, Generic[Data]):
    """The envelope of every success."""

    # Its documentation says "Success", its servers say "success".
    status: Annotated[Literal["success"], BeforeValidator(_lower)]
    data: Data


class ErrorBody(Document):
    message: str = ""


class ErrorAnswer(Document):
    """The envelope of every failure; only its presence and the message matter."""

    status: str
    error: ErrorBody = ErrorBody()


class NextAction(Document):
    requested_action: Text
    error_type: str | None = None
    error_note: str | None = None
    result_hash: str | None = None


class Source(Document):
    payment_source_type: str = V1


class SellingWallet(Document):
    wallet_vkey: str


class PaymentDocument(Document):
    id: Text
    blockchain_identifier: Annotated[str, Field(min_length=1, max_length=8000)]
    agent_identifier: str | None
    pay_by_time: Milliseconds | None
    submit_result_time: Milliseconds
    unlock_time: Milliseconds
    external_dispute_unlock_time: Milliseconds
    on_chain_state: str | None
    next_action: Annotated[NextAction, Field(alias="NextAction")]
    smart_contract_wallet: Annotated[SellingWallet | None, Field(alias="SmartContractWallet")]
    payment_source: Annotated[Source, Field(alias="PaymentSource")]
    result_hash: str | None
    metadata: str | None
    created_at: Moment
    updated_at: Text
    next_action_or_on_chain_state_or_result_last_changed_at: ChangedAt

    def value(self) -> Payment:
        wallet, action = self.smart_contract_wallet, self.next_action
        return Payment(
            id=self.id,
            blockchain_identifier=self.blockchain_identifier,
            agent_identifier=self.agent_identifier or "",
            pay_by_time_ms=self.pay_by_time,
            submit_result_time_ms=self.submit_result_time,
            unlock_time_ms=self.unlock_time,
            external_dispute_unlock_time_ms=self.external_dispute_unlock_time,
            seller_vkey=wallet.wallet_vkey if wallet else "",
            on_chain_state=self.on_chain_state,
            next_action=action.requested_action,
            error_type=action.error_type,
            error_note=action.error_note,
            result_hash=self.result_hash,
            next_action_result_hash=action.result_hash,
            metadata=self.metadata,
            payment_source_type=self.payment_source.payment_source_type,
            created_at=self.created_at,
            updated_at=self.updated_at,
            last_changed_at=self.next_action_or_on_chain_state_or_result_last_changed_at,
        )


def _payment_or_what_is_left(row: Any) -> PaymentDocument | Unreadable:
    try:
        return PaymentDocument.model_validate(row)
    except ValidationError as error:
        return _unreadable(row, fault(error))


#: Where one payment that we cannot read is not to take the others along.
AnyPayment = Annotated[PaymentDocument | Unreadable, PlainValidator(_payment_or_what_is_left)]


class PaymentList(Document):
    payments: Annotated[tuple[AnyPayment, ...], Field(alias="Payments")]

    def values(self) -> tuple[Payment | Unreadable, ...]:
        return tuple(row if isinstance(row, Unreadable) else row.value() for row in self.payments)


def fault(error: ValidationError) -> str:
    """The first thing that is wrong: where, and in what way; never the value."""
    first = error.errors(include_input=False, include_url=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    return f"{where}: {first['msg']}"


def _unreadable(row: Any, why: str) -> Unreadable:
    parts = row if isinstance(row, dict) else {}
    metadata = parts.get("metadata", ...)
    return Unreadable(
        id=_part(_TEXT, parts.get("id")),
        metadata="" if metadata is None else _part(_METADATA, metadata),
        created_at=_part(_MOMENT, parts.get("createdAt")),
        last_changed_at=_part(
            _CHANGED_AT, parts.get("nextActionOrOnChainStateOrResultLastChangedAt")
        ),
        fault=why,
    )


_TEXT: TypeAdapter[str] = TypeAdapter(Text)
_METADATA: TypeAdapter[str] = TypeAdapter(str)
_MOMENT: TypeAdapter[datetime] = TypeAdapter(Moment)
_CHANGED_AT: TypeAdapter[str] = TypeAdapter(ChangedAt)


def _part(of: TypeAdapter[Part], value: Any) -> Part | None:
    try:
        return of.validate_python(value)
    except ValidationError:
        return None


class KeyDocument(Document):
    """The key's rights: three flags now, one word in older services."""

    status: str
    can_read: bool | None = None
    can_pay: bool | None = None
    permission: str | None = None
    networks: Annotated[tuple[str, ...], Field(alias="NetworkLimit")] = ()

    def value(self) -> KeyStatus:
        pays = self.permission in {"ReadAndPay", "Admin"}
        return KeyStatus(
            active=self.status.lower() == "active",
            can_read=self.permission is not None if self.can_read is None else self.can_read,
            can_pay=pays if self.can_pay is None else self.can_pay,
            networks=self.networks,
        )


class Ignored(Document):
    """An answer of which only the success matters."""
