"""What clients send and are sent, as pydantic models; the OpenAPI document is made from these.

Requests take the names older clients use and ignore fields they do not know. Answers name their
members as MIP-003 does, which mixes two styles.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AliasChoices,
    AliasGenerator,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    ValidationError,
)

from service.errors import FieldError, InvalidInput

Milliseconds = Annotated[int, Field(ge=0, description="Unix time in milliseconds.")]
Hash = Annotated[str, Field(pattern="^[0-9a-f]{64}$", description="SHA-256 in hex (MIP-004).")]
StatusName = Literal["awaiting_payment", "awaiting_input", "running", "completed", "failed"]

#: The members MIP-003 writes in another style than this code does.
_CAMEL = {
    "blockchain_identifier": "blockchainIdentifier",
    "pay_by_time": "payByTime",
    "submit_result_time": "submitResultTime",
    "unlock_time": "unlockTime",
    "external_dispute_unlock_time": "externalDisputeUnlockTime",
    "agent_identifier": "agentIdentifier",
    "seller_vkey": "sellerVKey",
    "identifier_echo": "identifierFromPurchaser",
    "input_hash_camel": "inputHash",
    "payment_source_type": "paymentSourceType",
    "supported_payment_source_index": "supportedPaymentSourceIndex",
}

RequestModel = TypeVar("RequestModel", bound=BaseModel)


class _Request(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)


class StartJob(_Request):
    """A purchase: whose it is, and the input of the run."""

    identifier_from_purchaser: str | None = Field(
        default=None,
        max_length=256,
        validation_alias=AliasChoices("identifier_from_purchaser", "identifierFromPurchaser"),
        description=(
            "Names the purchase: hex, 14 to 26 characters, even. Required unless the variant is"
            " free. Also taken as identifierFromPurchaser."
        ),
        examples=["a1b2c3d4e5f60718"],
    )
    input_data: dict[str, JsonValue] = Field(
        default_factory=dict,
        validation_alias=AliasChoices("input_data", "inputData", "input"),
        description="The input, by field id of the flow's schema. Also taken as inputData, input.",
        examples=[{"text": "Bees make honey. Bees live in hives. A hive has one queen."}],
    )
    flow: str | None = Field(
        default=None,
        max_length=270,
        description="The flow, where the address does not name one.",
    )


class ProvideInput(_Request):
    """The answer to a question of the job; one of status_id and input_schema_hash names it."""

    job_id: str = Field(min_length=1, max_length=256, description="The job, as start_job named it.")
    status_id: str | None = Field(
        default=None, max_length=256, description="The id of the status that asked."
    )
    input_schema_hash: str | None = Field(
        default=None,
        max_length=256,
        description=(
            "SHA-256 of the canonical JSON (RFC 8785) of the schema that was asked with: of the"
            " whole object, or of its inner list."
        ),
    )
    input_data: dict[str, JsonValue] = Field(
        validation_alias=AliasChoices("input_data", "inputData", "input"),
        description="The answer, by field id of the question's schema.",
    )
    flow: str | None = Field(default=None, max_length=270, description="As in start_job.")


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True, serialize_by_alias=True, populate_by_name=True)


class _CamelAnswer(_Answer):
    model_config = ConfigDict(
        alias_generator=AliasGenerator(serialization_alias=lambda name: _CAMEL.get(name, name))
    )


class StartedFree(_CamelAnswer):
    """A job of a free variant, already on its way."""

    id: str = Field(description="The job.")
    job_id: str = Field(description="The same, under the standard's older name.")
    status: StatusName
    input_hash: Hash
    input_hash_camel: Hash
    identifier_echo: str | None = None


class StartedPaid(_CamelAnswer):
    """A job of a paid variant, with all a purchaser needs to pay for it.

    The times are the payment service's own, to the digit: they are part of what it signed.
    """

    id: str = Field(description="The job.")
    job_id: str = Field(description="The same, under the standard's older name.")
    blockchain_identifier: str = Field(min_length=1, max_length=8000)
    pay_by_time: Milliseconds
    submit_result_time: Milliseconds
    unlock_time: Milliseconds
    external_dispute_unlock_time: Milliseconds
    agent_identifier: str = Field(min_length=1)
    seller_vkey: str = Field(min_length=1)
    identifier_echo: str = Field(min_length=1)
    input_hash: Hash
    input_hash_camel: Hash
    payment_source_type: str | None = None
    supported_payment_source_index: int | None = None


class JobStatus(_Answer):
    """Where a job is; ``id`` is the id of this status and stays while the status does."""

    id: str = Field(description="The id of this status, not of the job.")
    job_id: str
    status: StatusName
    input_schema: dict[str, JsonValue] | None = Field(
        default=None, description="With awaiting_input: the question."
    )
    result: str | None = Field(
        default=None, min_length=1, description="With completed: the string that was hashed."
    )
    message: str | None = Field(default=None, description="With failed: why.")


class InputProvided(_Answer):
    """The receipt for an answer."""

    input_hash: Hash
    signature: str = Field(description="Empty: the payment service signs no inputs.")


class Availability(_Answer):
    """May a run be bought now? Always 200: registries take anything else as gone for good."""

    status: Literal["available", "unavailable"]
    type: Literal["masumi-agent"] = "masumi-agent"
    message: str | None = None


class InputField(_Answer):
    """One field of an input schema (MIP-003, attachment 01)."""

    id: str
    type: str
    name: str
    data: dict[str, JsonValue] | None = None
    validations: list[dict[str, JsonValue]] | None = None


class InputGroup(_Answer):
    """Fields shown together; what is sent stays flat."""

    id: str
    title: str
    input_data: list[InputField]


class InputFields(_Answer):
    """A flow's input as one list of fields."""

    input_data: list[InputField]


class InputGroups(_Answer):
    """A flow's input as groups of fields."""

    input_groups: list[InputGroup]


class DemoOutput(_Answer):
    """What a run with the demonstration's input gives."""

    result: str


class Demo(_Answer):
    """An input to try the flow with, and what comes of it."""

    input: dict[str, JsonValue]
    output: DemoOutput


class Funds(_Answer):
    """An amount of one unit (lovelace, where the unit is empty)."""

    amount: str
    unit: str


class VariantView(_Answer):
    """A way to buy the flow: free, or paid to one agent identifier."""

    name: str
    free: bool
    agent_identifier: str | None = None
    requested_funds: list[Funds]


class FlowLinks(_Answer):
    """Addresses of the flow, relative to the root of this service."""

    self: str
    start_job: str
    status: str
    provide_input: str
    availability: str
    input_schema: str
    demo: str


class FlowView(_Answer):
    """A flow as it is offered."""

    id: str = Field(description="Its name in addresses.")
    uid: str = Field(description="Its id for good.")
    name: str
    description: str
    version: str
    author: str | None = None
    tags: list[str]
    variants: list[VariantView]
    default_variant: str
    links: FlowLinks


class FlowList(_Answer):
    """A page of flows, ordered by id; ``next`` is the cursor of the following page, if any."""

    flows: list[FlowView]
    next: str | None = None


class FieldFault(_Answer):
    """What is wrong with one field."""

    pointer: str = Field(description="JSON Pointer (RFC 6901) into the body, or a parameter.")
    detail: str


class ProblemView(_Answer):
    """A failure (RFC 9457); the types are described in docs/api.md."""

    model_config = ConfigDict(extra="allow")

    type: str
    title: str
    status: int
    instance: str
    request_id: str
    detail: str | None = None
    errors: list[FieldFault] | None = None
    dependency: str | None = None
    retryable: bool | None = None


def parse(model: type[RequestModel], body: dict[str, Any]) -> RequestModel:
    """The body as ``model``; raises InvalidInput with one FieldError for each fault."""
    try:
        return model.model_validate(body)
    except ValidationError as error:
        # Never the input itself: it may be a secret, and may not even be printable.
        faults = error.errors(include_input=False, include_url=False, include_context=False)
        raise InvalidInput(
            tuple(FieldError(pointer(fault["loc"]), _sentence(fault["msg"])) for fault in faults)
        ) from error


def pointer(path: tuple[str | int, ...]) -> str:
    """A place in the body as a JSON pointer (RFC 6901)."""
    return "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in path)


def _sentence(text: str) -> str:
    return text.removesuffix(".") + "."
