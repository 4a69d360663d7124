"""MIP-004 hashes: what the purchaser, the chain and this service must compute alike.

Canonical JSON is RFC 8785 (the ``canonicaljson`` package that MIP-004 names differs from it, and
from every JavaScript buyer, on each float). Values that have no canonical form raise InvalidInput
with a pointer to the place.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from types import NoneType
from typing import Any, Literal

import rfc8785

from service.errors import FieldError, InvalidInput

#: Largest integer every JSON reader agrees on (IEEE 754 double, exactly).
MAX_INTEGER = 2**53 - 1
#: Deeper values serve nobody and would exhaust the recursion of simple readers.
MAX_DEPTH = 64
#: What each value of an input may be, in the order of asking: an abstract class takes longest.
_SCALARS = (str, int, float, NoneType)
_CONTAINERS = (dict, list, tuple, Mapping)


def canonical(value: object, *, pointer: str = "") -> bytes:
    """RFC 8785 bytes of a JSON value; ``pointer`` says where it stands in the body."""
    for fault in content_faults(value, pointer):
        raise InvalidInput((fault,))
    return rfc8785.dumps(value)  # type: ignore[arg-type]  # content_faults has just checked it


def input_hash(identifier: str, input_data: object) -> str:
    """Hash of a purchaser's input: 64 lower-case hex digits. ``None`` counts as ``{}``."""
    given = {} if input_data is None else input_data
    return _sha256(_utf8(identifier) + b";" + canonical(given, pointer="/input_data"))


def result_hash(identifier: str, result: str, form: Literal["escaped", "raw"]) -> str:
    """Hash of a result, over the very string that /status returns.

    ``escaped`` is what the SDK and the marketplaces compute (JSON escapes, no outer quotes);
    ``raw`` is the text of MIP-004. They agree unless the result holds quotes, backslashes or
    control characters.
    """
    text = json.dumps(result, ensure_ascii=False)[1:-1] if form == "escaped" else result
    return _sha256(_utf8(identifier) + b";" + _utf8(text))


def schema_hashes(schema: Mapping[str, Any]) -> frozenset[str]:
    """Both hashes in use for a schema document: of the whole object, and of its array alone."""
    parts: list[object] = [dict(schema)]
    parts += [schema[key] for key in ("input_data", "input_groups") if key in schema]
    return frozenset(_sha256(canonical(part)) for part in parts)


def content_faults(
    value: object, pointer: str = "", *, nul: bool = True, most: int | None = None
) -> Iterator[FieldError]:
    """Every place at which a JSON value has no canonical form, in document order.

    With ``nul=False`` also every NUL character: canonical, but PostgreSQL cannot store it. A value
    of more than ``most`` members, at all depths together, is not looked through to its end.
    """
    waiting: list[tuple[object, str, int]] = [(value, pointer, 0)]
    count = 0
    while waiting:
        item, where, depth = waiting.pop()
        if fault := _own_fault(item, depth, nul):
            yield FieldError(where, fault)
            continue
        if isinstance(item, _SCALARS) or not isinstance(item, _CONTAINERS):
            continue
        count += len(item)
        if most is not None and count > most:
            yield FieldError(pointer, f"holds more than {most} values; send fewer")
            return
        if isinstance(item, Mapping):
            members = []
            for key, member in item.items():
                if not isinstance(key, str):
                    yield FieldError(where, "has a member name that is not text")
                elif fault := _text_fault(key, nul):
                    yield FieldError(where, f"has a member name that {fault}")
                else:
                    members.append((member, f"{where}/{escape(key)}", depth + 1))
            waiting += reversed(members)
        else:
            waiting += [(item[i], f"{where}/{i}", depth + 1) for i in range(len(item) - 1, -1, -1)]


def escape(token: str) -> str:
    """One reference token of a JSON pointer (RFC 6901)."""
    return token.replace("~", "~0").replace("/", "~1")


def _own_fault(item: object, depth: int, nul: bool) -> str | None:
    if depth > MAX_DEPTH:
        return f"is nested deeper than {MAX_DEPTH} levels; send a flatter value"
    if isinstance(item, str):
        return _text_fault(item, nul)
    if item is None or isinstance(item, bool):
        return None
    if isinstance(item, int):
        small = -MAX_INTEGER <= item <= MAX_INTEGER
        return None if small else "is an integer beyond ±(2^53-1); send it as a string"
    if isinstance(item, float):
        return None if math.isfinite(item) else "must be a finite number"
    return None if isinstance(item, _CONTAINERS) else "is not a JSON value"


def _text_fault(text: str, nul: bool) -> str | None:
    if not nul and "\x00" in text:
        return "holds a NUL character; remove it"
    try:
        text.encode()
    except UnicodeEncodeError:
        return "holds half a character (a lone surrogate); remove it"
    return None


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise InvalidInput(message="The text is not valid Unicode (a lone surrogate).") from error


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
