"""The bodies the sandbox takes, and the answers that refuse one."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

Model = TypeVar("Model", bound=BaseModel)

#: The spellings the real service takes; an offset such as +00:00 is not among them.
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}(T\d{2}:\d{2}:\d{2}(\.\d{1,9})?Z?)?")


class Refusal(Exception):
    """An answer other than 200, in the service's envelope."""

    def __init__(self, status: int, message: str, **more: Any) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.more = more


def parse(model: type[Model], content: bytes) -> Model:
    try:
        return model.model_validate_json(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise Refusal(400, f"{where}: {first['msg']}") from error


def _date_ms(value: object) -> object:
    if not isinstance(value, str) or not _DATE.fullmatch(value):
        raise ValueError("Invalid ISO date")
    moment = datetime.fromisoformat(value.removesuffix("Z"))
    return int(moment.replace(tzinfo=UTC).timestamp() * 1000)


def _digits(value: object) -> object:
    if not isinstance(value, str) or not re.fullmatch(r"\d{1,16}", value):
        raise ValueError("must be a time in milliseconds, as a string")
    return int(value)


DateMs = Annotated[int, BeforeValidator(_date_ms)]
DigitsMs = Annotated[int, BeforeValidator(_digits)]
Network = Literal["Preprod", "Mainnet"]
SourceType = Literal["Web3CardanoV1", "Web3CardanoV2"]
Identifier = Annotated[str, Field(min_length=1, max_length=8000)]

#: What the real service puts in for a missing date: 1970, which it then refuses.
_LONG_AGO_MS = 43_200_000


class Body(BaseModel):
    model_config = ConfigDict(extra="ignore", alias_generator=to_camel, strict=True)


class Fund(Body):
    amount: Annotated[str, Field(max_length=25)]
    unit: Annotated[str, Field(max_length=150)]


class NewPayment(Body):
    """POST /payment."""

    input_hash: Annotated[str, Field(max_length=250)]
    network: Network
    agent_identifier: Annotated[str, Field(min_length=57, max_length=250)]
    identifier_from_purchaser: Annotated[str, Field(min_length=14, max_length=26)]
    pay_by_time: DateMs = _LONG_AGO_MS
    submit_result_time: DateMs = _LONG_AGO_MS
    unlock_time: DateMs | None = None
    external_dispute_unlock_time: DateMs | None = None
    requested_funds: Annotated[
        list[Fund] | None, Field(default=None, max_length=7, alias="RequestedFunds")
    ]
    payment_source_type: SourceType | None = None
    supported_payment_source_index: Annotated[int | None, Field(ge=0, le=24)] = None
    metadata: str | None = None
    seller_return_address: Annotated[str | None, Field(max_length=250)] = None


class About(Body):
    """Every other body: about one payment."""

    network: Network
    blockchain_identifier: Identifier


class Lookup(About):
    include_history: Literal["true", "false"] = "false"


class Submission(About):
    submit_result_hash: Annotated[str, Field(min_length=64, max_length=64)]


class Recovery(About):
    updated_at: str
    retry_previous_action: bool = False


class NewPurchase(About):
    """POST /purchase: the terms as the purchaser was told them, digit for digit."""

    input_hash: str
    seller_vkey: str
    agent_identifier: str
    identifier_from_purchaser: str
    pay_by_time: DigitsMs
    submit_result_time: DigitsMs
    unlock_time: DigitsMs
    external_dispute_unlock_time: DigitsMs
