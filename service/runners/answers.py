"""What an HTTP runner may answer, read strictly where a purchaser's money depends on it."""

from __future__ import annotations

import json
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    TypeAdapter,
    ValidationError,
)

from service.errors import RunnerUnavailable
from service.mip.hashing import content_faults
from service.mip.schema import InputSchema
from service.runners.models import Done, Failed, NeedsInput, RunOutcome

#: A result is stored, hashed and sent with every status; larger ones belong behind a link in it.
RESULT_LIMIT_BYTES = 1024 * 1024
#: JSON escapes may make a result up to three times (rarely six) as long.
BODY_LIMIT_BYTES = 4 * 1024 * 1024
#: The code of a job whose runner broke the contract.
BREACH = "runner-answer-invalid"
#: A runner may not make us ask more often, nor keep a finished result unseen for longer.
POLL_BOUNDS_S = (0.05, 60.0)


def _storable(text: str) -> str:
    for fault in content_faults(text, nul=False):
        raise ValueError(fault.detail)
    return text


def _sellable(result: str) -> str:
    if not result.strip():
        raise ValueError("must not be empty")
    size_bytes = len(_storable(result).encode())
    if size_bytes > RESULT_LIMIT_BYTES:
        raise ValueError(f"has {size_bytes} bytes; at most {RESULT_LIMIT_BYTES} are taken")
    return result


_Name = Annotated[str, StringConstraints(min_length=1, max_length=200), AfterValidator(_storable)]
_Message = Annotated[
    str, StringConstraints(min_length=1, max_length=2000), AfterValidator(_storable)
]


class _Part(BaseModel):
    # Runners may say more than we read; that is theirs.
    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)


class Running(_Part):
    """Still at work; ask again ``poll_after`` seconds later."""

    status: Literal["running"]
    poll_after: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None

    def wait_s(self, default_s: float) -> float:
        low, high = POLL_BOUNDS_S
        return min(max(default_s if self.poll_after is None else self.poll_after, low), high)


class _Done(_Part):
    status: Literal["done"]
    result: Annotated[str, AfterValidator(_sellable)]


class _NeedsInput(_Part):
    status: Literal["needs_input"]
    request_id: _Name
    input_schema: InputSchema
    expires_at: AwareDatetime | None = None


class _Error(_Part):
    code: _Name
    message: _Message
    retryable: bool = False


class _Failed(_Part):
    status: Literal["failed"]
    error: _Error


_Answer = Annotated[Running | _Done | _NeedsInput | _Failed, Field(discriminator="status")]
_ANSWERS: TypeAdapter[Running | _Done | _NeedsInput | _Failed] = TypeAdapter(_Answer)


def read_answer(body: bytes) -> RunOutcome | Running:
    """The runner's answer; a breach of the contract is a Failed that says which.

    Raises RunnerUnavailable for a body that is no JSON at all: that is a proxy's page, or half an
    answer, and may be whole the next time.
    """
    try:
        # json, not pydantic's own reader: half a character is a breach here, not broken JSON.
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise RunnerUnavailable("The runner's answer was not JSON.") from error
    try:
        answer = _ANSWERS.validate_python(document)
    except ValidationError as error:
        fault = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(part) for part in fault["loc"]) or "the answer"
        return breach(f"{where}: {fault['msg']}")
    match answer:
        case _Done(result=result):
            return Done(result)
        case _NeedsInput(request_id=request_id, input_schema=schema, expires_at=expires_at):
            asked = NeedsInput(request_id, schema, expires_at)
            return asked if schema.fields else breach("input_schema asks for nothing")
        case _Failed(error=told):
            return Failed(told.code, told.message, told.retryable)
        case running:
            return running


def breach(detail: str) -> Failed:
    """The runner broke the contract; a repetition of the same work would break it again."""
    shown = "".join(c if c.isprintable() else "?" for c in detail[:300])
    return Failed(BREACH, f"The flow gave an invalid answer: {shown}", False)
