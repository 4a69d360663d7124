"""A flow as its operator writes it down, and as it is stored: every rule, checked at import."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Annotated, Any, Literal, Self
from uuid import UUID, uuid5

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from service.errors import InvalidInput
from service.flows.models import Flow, Fund, Variant
from service.mip.formats import is_http_url
from service.mip.hashing import canonical, content_faults
from service.mip.schema import InputSchema
from service.mip.validation import Refused, check, validate_input
from service.runners.builtin.runner import BUILTINS
from service.runners.models import RunnerSpec

#: First segments of our own routes, present and planned: a flow of this name could not be reached.
RESERVED_SLUGS = frozenset(
    {
        "admin", "api", "availability", "demo", "docs", "favicon", "flows", "health",
        "input_schema", "internal", "jobs", "limits", "livez", "metrics", "openapi", "ops",
        "provide_input", "readyz", "redoc", "robots", "sandbox", "shop", "start_job", "static",
        "status", "swagger", "well-known",
    }
)  # fmt: skip
#: Made once, at random: a flow gets the same uid wherever it is imported first.
_NAMESPACE = UUID("f4b5d1c6-6f5f-4b2c-8d3e-0c5a9d1f7e21")

# Both stand in URLs, `slug+variant`.
Slug = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
Line = Annotated[str, StringConstraints(min_length=1, max_length=200, strip_whitespace=True)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class FundDefinition(_Part):
    amount: Annotated[str, StringConstraints(pattern=r"^[1-9][0-9]{0,24}$")]
    unit: Annotated[str, StringConstraints(max_length=150)]


class VariantDefinition(_Part):
    free: bool = False
    agent_identifier: Annotated[
        str | None, Field(pattern=r"^[0-9a-fA-F]+$", min_length=57, max_length=250)
    ] = None
    requested_funds: Annotated[tuple[FundDefinition, ...], Field(max_length=7)] = ()
    payment_source_type: Literal["Web3CardanoV1", "Web3CardanoV2"] | None = None
    supported_payment_source_index: Annotated[int | None, Field(ge=0, le=24)] = None

    @model_validator(mode="after")
    def _free_or_sellable(self) -> Self:
        terms = self.model_dump(exclude={"free"}, exclude_defaults=True)
        if self.free and terms:
            raise ValueError(f"a free variant has no {', '.join(terms)}")
        if not self.free and self.agent_identifier is None:
            raise ValueError("a paid variant needs agent_identifier (or set free = true)")
        v2 = self.payment_source_type == "Web3CardanoV2"
        if v2 != (self.supported_payment_source_index is not None):
            raise ValueError("supported_payment_source_index belongs to Web3CardanoV2, and only it")
        return self


class RunnerDefinition(_Part):
    kind: Literal["builtin", "http"]
    target: Annotated[str, StringConstraints(min_length=1, max_length=2000)]
    timeout: Annotated[float, Field(gt=0, le=86400)] = 600.0
    request_timeout: Annotated[float, Field(gt=0, le=600)] = 30.0
    poll_interval: Annotated[float, Field(ge=0.05, le=60)] = 2.0
    #: Never one of our own variables: a mistyped name must not send our secrets to a runner.
    secret_env: Annotated[
        str | None, Field(pattern=r"^[A-Z][A-Z0-9_]{0,99}$", examples=["REPORTS_RUNNER_TOKEN"])
    ] = None

    @model_validator(mode="after")
    def _reachable(self) -> Self:
        if self.kind == "builtin":
            if self.target not in BUILTINS:
                raise ValueError(f"target must be one of {', '.join(sorted(BUILTINS))}")
            if self.secret_env:
                raise ValueError("a built-in takes no secret_env")
        elif not is_http_url(self.target) or any(sign in self.target for sign in "?#@"):
            raise ValueError("target must be an http(s) URL without query, fragment or credentials")
        if self.secret_env and self.secret_env.startswith("TOLLGATE_"):
            raise ValueError("secret_env must not name a variable of Tollgate itself")
        return self


class DemoDefinition(_Part):
    input: dict[str, Any]
    output: Annotated[str, StringConstraints(min_length=1, max_length=100_000)]


class FlowDefinition(_Part):
    """One entry of a definitions file."""

    slug: Slug
    uid: UUID | None = None
    name: Line
    description: Annotated[str, StringConstraints(max_length=5000, strip_whitespace=True)] = ""
    version: Annotated[str, StringConstraints(pattern=r"^[0-9A-Za-z][0-9A-Za-z.+-]{0,49}$")]
    tags: Annotated[tuple[Line, ...], Field(max_length=20)] = ()
    author: Line | None = None
    #: A disabled flow is not for sale; its jobs go on.
    enabled: bool = True
    input_schema: InputSchema
    variants: Annotated[dict[Slug, VariantDefinition], Field(min_length=1, max_length=20)]
    default_variant: Slug
    runner: RunnerDefinition
    demo: DemoDefinition

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if faults := list(_faults(self)):
            raise ValueError("\n".join(faults))
        return self

    @property
    def aliases(self) -> frozenset[str]:
        """What the flow may be asked for by, besides its uid; see ``alias``."""
        return frozenset({self.slug, alias(self.name)})

    def document(self) -> dict[str, Any]:
        """As stored: read again by ``FlowDefinition`` it is the same definition."""
        return {
            **self.model_dump(mode="json", exclude={"input_schema", "uid"}, exclude_defaults=True),
            "input_schema": self.input_schema.document(),
        }

    def digest(self) -> str:
        """Equal for equal documents, whatever file and form they came from."""
        return hashlib.sha256(canonical(self.document())).hexdigest()

    def first_uid(self) -> UUID:
        """The uid of this flow where none is stored yet."""
        return self.uid or uuid5(_NAMESPACE, self.slug)

    def flow(self, uid: UUID) -> Flow:
        return Flow(
            uid=uid,
            slug=self.slug,
            name=self.name,
            description=self.description,
            version=self.version,
            tags=self.tags,
            author=self.author,
            input_schema=self.input_schema,
            variants=MappingProxyType(
                {name: _variant(name, given) for name, given in self.variants.items()}
            ),
            default_variant=self.default_variant,
            runner=RunnerSpec(
                kind=self.runner.kind,
                target=self.runner.target,
                timeout_s=self.runner.timeout,
                request_timeout_s=self.runner.request_timeout,
                poll_s=self.runner.poll_interval,
                secret_env=self.runner.secret_env,
            ),
            demo_input=self.demo.input,
            demo_output=self.demo.output,
        )


def alias(text: str) -> str:
    """The form under which slugs, uids and names are compared."""
    return " ".join(text.split()).casefold()


def _variant(name: str, given: VariantDefinition) -> Variant:
    return Variant(
        name=name,
        free=given.free,
        agent_identifier=given.agent_identifier,
        requested_funds=tuple(Fund(f.amount, f.unit) for f in given.requested_funds),
        payment_source_type=given.payment_source_type,
        supported_payment_source_index=given.supported_payment_source_index,
    )


def _faults(given: FlowDefinition) -> Iterator[str]:
    if given.slug in RESERVED_SLUGS:
        yield f"slug: {given.slug!r} is the name of a route of this service"
    if given.default_variant not in given.variants:
        yield f"default_variant: there is no variant {given.default_variant!r}"
    for fault in content_faults(given.document(), nul=False):
        yield f"{fault.pointer}: {fault.detail}"
    for field in given.input_schema.fields:
        if field.data.default is not None:
            try:
                check(field, _plain(field.data.default))
            except Refused as refused:
                yield f"input_schema: the default of {field.id!r} {refused}"
    try:
        validate_input(given.input_schema, given.demo.input)
    except InvalidInput as invalid:
        for fault in invalid.errors:
            yield f"demo.input{fault.pointer.removeprefix('/input_data')}: {fault.detail}"
    unknown = given.demo.input.keys() - {field.id for field in given.input_schema.fields}
    for name in sorted(unknown):
        yield f"demo.input/{name}: the schema has no such field"


def _plain(default: object) -> object:
    return list(default) if isinstance(default, tuple) else default


def definition_of(document: Mapping[str, Any]) -> FlowDefinition:
    """A stored document; it was checked when it was imported."""
    return FlowDefinition.model_validate(document)
