"""Which content coding a client wants: ``Accept-Encoding`` as RFC 9110 (12.5.3) has it.

There are two to choose from: gzip, and none ("identity").
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

GZIP = "gzip"
IDENTITY = "identity"
#: Clients send few different ones; a longer field is read each time.
_REMEMBERED_CHARACTERS = 200
_ELEMENT = re.compile(
    r"([!#$%&'*+.^_`|~0-9A-Za-z-]+)(?:[ \t]*;[ \t]*[qQ]=(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?))?"
)
#: What nothing is said of may be sent without a coding, though anything named is liked better.
_UNNAMED = 0.0001


class Wanted(NamedTuple):
    """What may be sent; ``gzip_first``: and gzip is liked at least as well as no coding."""

    gzip: bool
    identity: bool
    gzip_first: bool


#: Nothing was said: anything goes, and no coding is the safe choice.
ANYTHING = Wanted(gzip=False, identity=True, gzip_first=False)


def wanted(field: str | None) -> Wanted:
    """By the value of the field, None where there is none."""
    if field is None:
        return ANYTHING
    return _remembered(field) if len(field) <= _REMEMBERED_CHARACTERS else _read(field)


def _read(field: str) -> Wanted:
    weights: dict[str, float] = {}
    for element in field.split(","):
        # Elements that are none are passed over: they say nothing.
        if found := _ELEMENT.fullmatch(element.strip(" \t")):
            name = found[1].lower()
            name = GZIP if name == "x-gzip" else name
            weights[name] = float(found[2]) if found[2] else 1.0
    others = weights.get("*")
    gzip = weights.get(GZIP, others or 0.0)
    identity = weights.get(IDENTITY, _UNNAMED if others is None else others)
    if not gzip and not identity:
        # Nothing we have is acceptable: as good as unsaid, better than no answer (RFC 9110, 12.1).
        return ANYTHING
    return Wanted(gzip > 0, identity > 0, gzip > 0 and gzip >= identity)


_remembered = lru_cache(maxsize=256)(_read)
