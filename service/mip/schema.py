"""An MIP-003 input schema (attachment 01), as flows declare it and as ``/input_schema`` emits it.

Reading is strict: what the standard does not know is a fault of the flow, found at import, not a
constraint that is silently not kept. ``document()`` emits standard keys only, always in one order,
because purchasers hash what they read.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    StringConstraints,
    model_validator,
)
from pydantic import Field as Rule

from service.mip.formats import exact, moment, number
from service.mip.hashing import content_faults

FieldType = Literal[
    "text", "string", "textarea", "password", "search", "tel", "email", "url", "number", "range",
    "boolean", "checkbox", "radio", "option", "multiselect", "date", "datetime-local", "time",
    "month", "week", "color", "file", "hidden", "none",
]  # fmt: skip

TEXT_TYPES: Final = frozenset(
    {"text", "string", "textarea", "password", "search", "tel", "email", "url"}
)
NUMBER_TYPES: Final = frozenset({"number", "range"})
CHOICE_TYPES: Final = frozenset({"radio", "option", "multiselect"})
MOMENT_TYPES: Final = frozenset({"date", "datetime-local", "time", "month", "week"})

#: More fields or choices than a form can show are a mistake, or an attack by a runner.
_MAX_FIELDS = 200
_MAX_CHOICES = 1000


def _written(value: object) -> object:
    """Validation values are strings on the wire; writers of TOML give numbers, too."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int | float) else value


Text = Annotated[str, StringConstraints(min_length=1, max_length=250)]
LongText = Annotated[str, StringConstraints(max_length=20_000)]
Choice = Annotated[str, StringConstraints(min_length=1, max_length=1000)]
Number = Annotated[int | float, Rule(allow_inf_nan=False)]


class Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class Validation(Part):
    """One constraint; several of one kind all hold."""

    validation: Literal["min", "max", "format", "accept", "optional"]
    value: Annotated[LongText, BeforeValidator(_written)]

    @model_validator(mode="before")
    @classmethod
    def _optional_says_so_itself(cls, given: Any) -> Any:
        if isinstance(given, dict) and given.get("value") in (None, ""):
            if given.get("validation") != "optional":
                raise ValueError(f"the validation {given.get('validation')!r} needs a value")
            return {**given, "value": "true"}
        return given

    def document(self) -> dict[str, str]:
        return {"validation": self.validation, "value": self.value}


class FieldData(Part):
    """What a field shows and offers; which of it matters depends on the field's type."""

    label: LongText | None = None
    placeholder: LongText | None = None
    description: LongText | None = None
    default: bool | Number | LongText | tuple[LongText | int, ...] | None = None
    values: Annotated[tuple[Choice, ...], Rule(max_length=_MAX_CHOICES)] | None = None
    value: LongText | None = None
    min: Number | None = None
    max: Number | None = None
    step: Annotated[Number, Rule(gt=0)] | None = None
    outputFormat: Literal["url"] | None = None  # noqa: N815  # the standard's own spelling


class Field(Part):
    """One input of a flow."""

    id: Text
    type: FieldType
    name: Text
    data: FieldData = FieldData()
    validations: Annotated[tuple[Validation, ...], Rule(max_length=20)] = ()

    @model_validator(mode="before")
    @classmethod
    def _name_defaults_to_id(cls, given: Any) -> Any:
        if isinstance(given, dict) and given.get("name") is None and "id" in given:
            return {**given, "name": given["id"]}
        return given

    @model_validator(mode="after")
    def _fits_its_type(self) -> Self:
        if faults := list(_field_faults(self)):
            raise ValueError("; ".join(faults))
        return self

    @cached_property
    def optional(self) -> bool:
        """Required unless said otherwise; ``"false"`` says required too."""
        values = [v.value for v in self.validations if v.validation == "optional"]
        return bool(values) and all(value.lower() != "false" for value in values)

    @property
    def listed(self) -> bool:
        """Is the answer one or several of ``data.values``?"""
        return self.type in CHOICE_TYPES or (
            self.type == "checkbox" and self.data.values is not None
        )

    def values_of(self, kind: str) -> tuple[str, ...]:
        """The values of all validations of one kind, in order."""
        return tuple(v.value for v in self.validations if v.validation == kind)

    def document(self) -> dict[str, Any]:
        emitted: dict[str, Any] = {"id": self.id, "type": self.type, "name": self.name}
        if data := self.data.model_dump(mode="json", exclude_none=True):
            emitted["data"] = data
        if self.validations:
            emitted["validations"] = [v.document() for v in self.validations]
        return emitted


Fields = Annotated[tuple[Field, ...], Rule(max_length=_MAX_FIELDS)]


class Group(Part):
    """A titled set of fields; groups exist in the schema only, never in submitted input."""

    id: Text
    title: LongText
    input_data: Fields

    def document(self) -> dict[str, Any]:
        fields = [field.document() for field in self.input_data]
        return {"id": self.id, "title": self.title, "input_data": fields}


class InputSchema(Part):
    """Exactly one of a list of fields or a list of groups."""

    input_data: Fields | None = None
    input_groups: Annotated[tuple[Group, ...], Rule(max_length=_MAX_FIELDS)] | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.input_data is None) == (self.input_groups is None):
            raise ValueError("give exactly one of input_data and input_groups")
        if len(self.fields) > _MAX_FIELDS:
            raise ValueError(f"a schema has at most {_MAX_FIELDS} fields")
        if twice := _twice(field.id for field in self.fields):
            raise ValueError(f"the field id {twice!r} is used twice; ids are unique in the schema")
        if twice := _twice(group.id for group in self.input_groups or ()):
            raise ValueError(f"the group id {twice!r} is used twice")
        for fault in content_faults(self.document(), nul=False):
            raise ValueError(f"{fault.pointer} {fault.detail}")
        return self

    @cached_property
    def fields(self) -> tuple[Field, ...]:
        """All fields, of all groups, in order."""
        groups = self.input_groups or ()
        return (self.input_data or ()) + tuple(f for g in groups for f in g.input_data)

    def document(self) -> dict[str, Any]:
        """The JSON object emitted to purchasers, and hashed by them."""
        if self.input_groups is not None:
            return {"input_groups": [group.document() for group in self.input_groups]}
        return {"input_data": [field.document() for field in self.input_data or ()]}


def _twice(items: Iterable[str]) -> str | None:
    seen: set[str] = set()
    for item in items:
        if item in seen:
            return item
        seen.add(item)
    return None


def _field_faults(field: Field) -> Iterable[str]:
    data = field.data
    if field.listed:
        if not data.values:
            yield f"a field of type {field.type} needs data.values, a list of choices"
        elif twice := _twice(data.values):
            yield f"the choice {twice!r} is offered twice in data.values"
    if field.type == "file" and data.outputFormat != "url":
        yield 'a field of type file needs data.outputFormat = "url"'
    if field.type == "hidden" and data.value is None:
        yield "a field of type hidden needs data.value"
    if field.type != "file" and field.values_of("accept"):
        yield "the validation accept is for fields of type file"
    if data.min is not None and data.max is not None and exact(data.min) > exact(data.max):
        yield "data.min is greater than data.max"
    if field.type != "none":
        yield from _bound_faults(field)


def _bound_faults(field: Field) -> Iterable[str]:
    bounds: dict[str, list[Any]] = {"min": [], "max": []}
    for kind, found in bounds.items():
        for value in field.values_of(kind):
            try:
                found.append(bound(field, value))
            except ValueError as error:
                yield f"the validation {kind} {error}"
    if bounds["min"] and bounds["max"] and max(bounds["min"]) > min(bounds["max"]):
        yield "no value can be at least min and at most max"
    elif field.listed and bounds["min"] and max(bounds["min"]) > len(field.data.values or ()):
        yield "the validation min asks for more choices than data.values offers"


def bound(field: Field, value: str) -> Any:
    """A ``min`` or ``max`` as what it is compared with; ValueError says what it should be.

    Numbers: a Fraction; dates and times: a tuple; lengths and counts: an int.
    """
    if field.type in NUMBER_TYPES:
        try:
            return exact(number(value))
        except ValueError:
            raise ValueError("of a number must be a number") from None
    if field.type in MOMENT_TYPES:
        try:
            return moment(field.type, value)
        except ValueError as error:
            raise ValueError(f"is not a {field.type} that exists ({error})") from None
    if field.type in TEXT_TYPES or field.listed or field.type == "file":
        if not (value.isascii() and value.isdigit() and len(value) < 10):
            raise ValueError("counts characters, choices or files: it must be a whole number")
        return int(value)
    raise ValueError(f"means nothing for a field of type {field.type}")
