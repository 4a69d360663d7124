"""What a single text must look like: e-mail, URL, telephone, numbers, dates, colours.

No expression here backtracks more than linearly in the (bounded) length of its text.
"""

from __future__ import annotations

import math
import mimetypes
import re
from collections.abc import Callable
from datetime import date, datetime, time
from fractions import Fraction
from urllib.parse import urlsplit

from pydantic import AnyHttpUrl, TypeAdapter, ValidationError

from service.mip.hashing import MAX_INTEGER

#: RFC 5321: longer addresses cannot be delivered.
_EMAIL_LENGTH = 254
#: Generous for signed download links; what is longer is not a link.
_URL_LENGTH = 8192
#: The longest double takes 24 characters; the rest is somebody's padding.
_NUMBER_LENGTH = 64

# The rule of HTML's <input type=email>: an ASCII local part, then LDH labels.
_EMAIL = re.compile(
    r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}"
    r"@[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
    r"(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*"
)
_TELEPHONE = re.compile(r"\+?[0-9 ()./-]{3,32}")
_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_INTEGER = re.compile(r"[+-]?[0-9]+")
_COLOR = re.compile(r"#[0-9A-Fa-f]{6}")
_HTTP_START = re.compile(r"https?://[^/?#\\]", re.IGNORECASE)
# Readers of URLs silently drop or encode these; what the runner gets should be what was meant.
_URL_REFUSED = re.compile(r"[\s\x00-\x1f\x7f\\]")
_URLS = TypeAdapter(AnyHttpUrl)
# Only the types Python ships, not the machine's: every worker must decide alike.
_TYPES = mimetypes.MimeTypes(filenames=())

_MOMENTS: dict[str, re.Pattern[str]] = {
    "date": re.compile(r"([0-9]{4})-([0-9]{2})-([0-9]{2})"),
    "datetime-local": re.compile(
        r"([0-9]{4})-([0-9]{2})-([0-9]{2})T([0-9]{2}):([0-9]{2})(?::([0-9]{2}))?"
    ),
    "time": re.compile(r"([0-9]{2}):([0-9]{2})(?::([0-9]{2}))?"),
    "month": re.compile(r"([0-9]{4})-([0-9]{2})"),
    "week": re.compile(r"([0-9]{4})-W([0-9]{2})"),
}
#: How each of them is written, for messages.
MOMENT_FORMS = {
    "date": "YYYY-MM-DD",
    "datetime-local": "YYYY-MM-DDTHH:MM or YYYY-MM-DDTHH:MM:SS, without a zone",
    "time": "HH:MM or HH:MM:SS",
    "month": "YYYY-MM",
    "week": "YYYY-Www",
}
_CALENDAR: dict[str, Callable[..., object]] = {
    "date": date,
    "datetime-local": datetime,
    "time": time,
    "month": lambda year, month: date(year, month, 1),
    "week": lambda year, week: date.fromisocalendar(year, week, 1),
}


def is_email(text: str) -> bool:
    return len(text) <= _EMAIL_LENGTH and _EMAIL.fullmatch(text) is not None


def is_http_url(text: str) -> bool:
    """An absolute http(s) URL with a host. It is never fetched."""
    if len(text) > _URL_LENGTH or not _HTTP_START.match(text) or _URL_REFUSED.search(text):
        return False
    try:
        _URLS.validate_python(text)
    except ValidationError:
        return False
    return True


def is_telephone(text: str) -> bool:
    return _TELEPHONE.fullmatch(text) is not None and sum(c.isdigit() for c in text) >= 3


def is_integer_text(text: str) -> bool:
    return _INTEGER.fullmatch(text) is not None


def is_color(text: str) -> bool:
    return _COLOR.fullmatch(text) is not None


def number(text: str) -> int | float:
    """A number written as text; ValueError if it is none, or none that a double can hold."""
    text = text.strip()
    if len(text) > _NUMBER_LENGTH or not _NUMBER.fullmatch(text):
        raise ValueError("not a number")
    value = int(text) if _INTEGER.fullmatch(text) else float(text)
    if isinstance(value, int) and abs(value) > MAX_INTEGER:
        raise ValueError("integer beyond 2^53-1")
    if not math.isfinite(value):
        raise ValueError("number beyond the range of a double")
    return value


def exact(value: int | float) -> Fraction:
    """The number as written (0.1 is a tenth), so that steps and bounds have no rounding."""
    return Fraction(repr(value))


def moment(kind: str, text: str) -> tuple[int, ...]:
    """A date, time, month or week that exists, as integers that compare in time order.

    Raises ValueError for another form or a day that no calendar has.
    """
    match = _MOMENTS[kind].fullmatch(text)
    if match is None:
        raise ValueError(f"must be written {MOMENT_FORMS[kind]}")
    parts = tuple(int(part or 0) for part in match.groups())
    _CALENDAR[kind](*parts)
    return parts


def accepts(accept: str, url: str) -> bool:
    """Does an HTML accept list (``.pdf, image/*``) allow the file at this URL, by its name?

    The file is not fetched. A name that says nothing about its type is allowed.
    """
    entries = [entry.strip().lower() for entry in accept.split(",") if entry.strip()]
    name = urlsplit(url).path.rsplit("/", 1)[-1].lower()
    if not entries or "." not in name:
        return True
    media_type = _TYPES.types_map[True].get("." + name.rsplit(".", 1)[-1])
    by_type = [entry for entry in entries if not entry.startswith(".")]
    if any(name.endswith(entry) for entry in entries if entry.startswith(".")):
        return True
    if media_type is None:
        return bool(by_type)
    family = media_type.split("/")[0] + "/*"
    return any(entry in (media_type, family, "*/*", "*") for entry in by_type)
