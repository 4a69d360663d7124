"""Does submitted input keep the flow's schema? Every rule, every fault, once.

``validate_input`` returns what the runner gets: the schema's fields only, choices as their values,
numbers as numbers. What was submitted stays untouched, because it is what is hashed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, TypeVar

from service.errors import FieldError, InvalidInput
from service.mip import formats
from service.mip.hashing import content_faults, escape
from service.mip.schema import (
    MOMENT_TYPES,
    NUMBER_TYPES,
    TEXT_TYPES,
    Field,
    InputSchema,
    bound,
)

#: Enough for any text a form takes; a body may be larger only by its other fields.
MAX_TEXT = 100_000
MAX_ITEMS = 1000
#: All members of the input together; checking and hashing them takes a fraction of a second.
MAX_VALUES = 5000
#: A caller mends the first ones anyway, and the answer stays small.
MAX_FAULTS = 50
_POINTER = "/input_data"
_IDENTIFIER = re.compile(r"[0-9A-Fa-f]{14,26}")
#: What an unsent field is told apart by: null and the empty text count as unsent, too.
_UNSENT: Any = object()


class Refused(ValueError):
    """One value is not what its field asks for."""

    def __init__(self, *faults: str) -> None:
        super().__init__("; ".join(faults))
        self.faults = faults


def validate_input(schema: InputSchema, input_data: Mapping[str, Any]) -> dict[str, Any]:
    """The values for the runner, by field id. Raises InvalidInput with a FieldError per fault."""
    if not isinstance(input_data, Mapping):
        raise InvalidInput((FieldError(_POINTER, "must be an object of field ids and values"),))
    # No field type excuses these, and all of the input is hashed and stored, unknown members too.
    found = content_faults(input_data, _POINTER, nul=False, most=MAX_VALUES)
    faults = list(islice(found, MAX_FAULTS))
    if len(faults) == MAX_FAULTS or any(fault.pointer == _POINTER for fault in faults):
        raise InvalidInput(tuple(faults))
    broken = {fault.pointer.split("/")[2] for fault in faults}
    accepted: dict[str, Any] = {}
    for field in schema.fields:
        token = escape(field.id)
        if token in broken:
            continue
        try:
            value = check(field, input_data.get(field.id))
        except Refused as refused:
            faults += [FieldError(f"{_POINTER}/{token}", text) for text in refused.faults]
        else:
            if value is not _UNSENT:
                accepted[field.id] = value
    if faults:
        raise InvalidInput(tuple(faults[:MAX_FAULTS]))
    return accepted


def check_purchaser_identifier(text: str) -> None:
    """The payment service takes hex of even length, 14 to 26 digits; nothing else."""
    if not _IDENTIFIER.fullmatch(text) or len(text) % 2:
        detail = "must be 14 to 26 hexadecimal digits, an even number of them"
        raise InvalidInput((FieldError("/identifier_from_purchaser", detail),))


def check(field: Field, raw: Any) -> Any:
    """One value as the runner gets it; Refused with every fault of it."""
    if field.type == "none":
        return _UNSENT
    if field.type == "hidden":
        return _hidden(field, raw)
    if raw is None or raw == [] or (isinstance(raw, str) and not raw.strip()):
        if field.optional:
            return _UNSENT
        raise Refused("is required" if raw is None else "is required and must not be empty")
    return _checker(field)(field, raw)


def _checker(field: Field) -> Callable[[Field, Any], Any]:
    if field.type in TEXT_TYPES:
        return _text
    if field.type in NUMBER_TYPES:
        return _number
    if field.type in MOMENT_TYPES:
        return _moment
    if field.listed:
        return _choices
    return {"boolean": _boolean, "checkbox": _boolean, "color": _color, "file": _files}[field.type]


def _text(field: Field, raw: Any) -> str:
    text = _string(raw)
    faults = list(_bounds(field, len(text), "have {bound} characters", len(text)))
    asked = [value.lower() for value in field.values_of("format")]
    if field.type in ("email", "url"):
        asked.append(field.type)
    for name in dict.fromkeys(asked):
        holds, advice = _FORMATS.get(name, (None, ""))
        if holds and not holds(text):
            faults.append(advice)
    return _unless(faults, text)


_FORMATS: dict[str, tuple[Callable[[str], bool], str]] = {
    "email": (formats.is_email, "must be an e-mail address, such as name@example.com"),
    "url": (formats.is_http_url, "must be an absolute http or https URL"),
    "nonempty": (lambda text: bool(text.strip()), "must not be empty"),
    "integer": (formats.is_integer_text, "must be a whole number"),
    "tel-pattern": (
        formats.is_telephone,
        "must be a telephone number, such as +49 30 123456",
    ),
    "tel_pattern": (
        formats.is_telephone,
        "must be a telephone number, such as +49 30 123456",
    ),
}


def _number(field: Field, raw: Any) -> int | float:
    if isinstance(raw, str):
        try:
            value = formats.number(raw)
        except ValueError:
            raise Refused("must be a number") from None
    elif isinstance(raw, int | float) and not isinstance(raw, bool):
        value = raw
    else:
        raise Refused("must be a number")
    faults = list(_bounds(field, formats.exact(value), "be {bound}", None))
    if "integer" in (text.lower() for text in field.values_of("format")):
        if value != int(value):
            faults.append("must be a whole number")
        value = int(value)
    if field.type == "range":
        faults += _range_faults(field, value)
    return _unless(faults, value)


def _range_faults(field: Field, value: int | float) -> Iterator[str]:
    data, found = field.data, formats.exact(value)
    low = formats.exact(data.min) if data.min is not None else formats.exact(0)
    if data.min is not None and found < low:
        yield f"must be at least {data.min}"
    if data.max is not None and found > formats.exact(data.max):
        yield f"must be at most {data.max}"
    if data.step is not None and (found - low) % formats.exact(data.step):
        yield f"must be reached from {data.min or 0} in steps of {data.step}"


def _boolean(field: Field, raw: Any) -> bool:
    if not isinstance(raw, bool):
        raise Refused("must be true or false (not a text, not a number)")
    return raw


def _moment(field: Field, raw: Any) -> str:
    text = _string(raw)
    try:
        found = formats.moment(field.type, text)
    except ValueError:
        form = formats.MOMENT_FORMS[field.type]
        raise Refused(f"must be a {field.type} that exists, written {form}") from None
    return _unless(list(_bounds(field, found, "be {bound}", None)), text)


def _color(field: Field, raw: Any) -> str:
    text = _string(raw)
    return _unless([] if formats.is_color(text) else ["must be a colour, such as #1e90ff"], text)


def _hidden(field: Field, raw: Any) -> str:
    """A constant of the flow: callers may leave it out, not change it."""
    if raw is not None and raw != field.data.value:
        raise Refused("must be left out or sent exactly as the schema gives it")
    return field.data.value or ""


def _choices(field: Field, raw: Any) -> str | list[str]:
    offered = field.data.values or ()
    sent = _listed(raw)
    chosen = []
    for item in sent:
        if isinstance(item, str) and item in offered:
            chosen.append(item)
        elif isinstance(item, int) and not isinstance(item, bool) and 0 <= item < len(offered):
            chosen.append(offered[item])
        else:
            last = len(offered) - 1
            raise Refused(f"must be from the schema's values, or their positions 0 to {last}")
    faults = [] if len(set(chosen)) == len(chosen) else ["must not name a choice twice"]
    if field.type == "radio" and len(chosen) != 1:
        faults.append("must be exactly one choice")
    faults += _bounds(field, len(chosen), "name {bound} choices", len(chosen))
    return _unless(faults, chosen[0] if field.type == "radio" else chosen)


def _files(field: Field, raw: Any) -> list[str]:
    """URLs only, checked by their form and never fetched."""
    sent = _listed(raw)
    faults = list(_bounds(field, len(sent), "name {bound} files", len(sent)))
    accept = ",".join(field.values_of("accept"))
    for i, url in enumerate(sent):
        which = f"file {i + 1} " if len(sent) > 1 else ""
        if not isinstance(url, str) or not formats.is_http_url(url):
            faults.append(f"{which}must be an absolute http or https URL")
        elif not formats.accepts(accept, url):
            faults.append(f"{which}must be of a type in {accept}")
    return _unless(faults, sent)


def _bounds(field: Field, found: Any, must: str, count: int | None) -> Iterator[str]:
    has = "" if count is None else f" (it has {count})"
    for value in field.values_of("min"):
        if found < bound(field, value):
            yield f"must {must.format(bound=f'at least {value}')}{has}"
    for value in field.values_of("max"):
        if found > bound(field, value):
            yield f"must {must.format(bound=f'at most {value}')}{has}"


def _string(raw: Any) -> str:
    if not isinstance(raw, str):
        raise Refused("must be a text (a JSON string)")
    if len(raw) > MAX_TEXT:
        raise Refused(f"must have at most {MAX_TEXT} characters (it has {len(raw)})")
    return raw


def _listed(raw: Any) -> list[Any]:
    items = raw if isinstance(raw, list) else [raw]
    if len(items) > MAX_ITEMS:
        raise Refused(f"must have at most {MAX_ITEMS} entries (it has {len(items)})")
    return items


_T = TypeVar("_T")


def _unless(faults: Iterable[str], value: _T) -> _T:
    """``value``, unless it has faults."""
    if faults := tuple(faults):
        raise Refused(*faults)
    return value
