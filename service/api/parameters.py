"""What a request names outside its body: flow, job, page, waiting time, idempotency key.

Each function gives a checked value or raises: InvalidInput for what is malformed, UnknownFlow and
UnknownJob for what cannot exist. Texts that reach the core are free of NUL and surrogates.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from urllib.parse import unquote
from uuid import UUID

from aiohttp import web

from service.api import keys
from service.errors import FieldError, InvalidInput, UnknownFlow, UnknownJob

IDEMPOTENCY_KEY = "Idempotency-Key"
MAX_KEY_LENGTH = 255
MAX_WAIT_S = 25.0
DEFAULT_PAGE = 20
MAX_PAGE = 100
_MAX_REFERENCE = 270
#: A structured-field string (RFC 9651), or the bare text that most clients send.
_QUOTED_KEY = re.compile(r'"((?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])*)"')
_BARE_KEY = re.compile(r"[\x21\x23-\x5b\x5d-\x7e](?:[\x20\x21\x23-\x5b\x5d-\x7e]*)")
_SLUG = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


def flow_reference(request: web.Request, in_body: str | None = None) -> str:
    """The flow a request is for: from the path, ``flow=``, the body, or the configured default."""
    reference = (
        request.match_info.get("flow")
        or _flow_in_query(request)
        or in_body
        or request.app[keys.SERVER].default_flow
    )
    if not reference:
        raise invalid(
            "flow",
            "Name the flow: call /{flow}/… or add flow=; GET /flows lists them.",
        )
    if len(reference) > _MAX_REFERENCE or not reference.isprintable():
        raise UnknownFlow
    return reference


def job_id(text: str | None, *, where: str) -> UUID:
    """A job's id; what cannot be one is answered as unknown, what is missing as invalid."""
    if not text:
        raise invalid(where, "Name the job, as start_job did in id.")
    try:
        # UUID() alone takes braces, urn: and missing dashes: other names for the same job.
        uuid = UUID(text)
    except ValueError:
        raise UnknownJob from None
    if str(uuid) != text.lower():
        raise UnknownJob
    return uuid


def wait_s(query: Mapping[str, str]) -> float:
    """How long a status request may wait for a change; 0 if it does not ask to."""
    text = query.get("wait")
    if text is None:
        return 0.0
    if re.fullmatch(r"[0-9]{1,2}(\.[0-9]{1,3})?", text, re.ASCII) and float(text) <= MAX_WAIT_S:
        return float(text)
    raise invalid("wait", f"Must be a number of seconds from 0 to {MAX_WAIT_S:g}.")


def page_limit(query: Mapping[str, str]) -> int:
    """How many flows a page holds."""
    text = query.get("limit")
    if text is None:
        return DEFAULT_PAGE
    if re.fullmatch(r"[0-9]{1,3}", text, re.ASCII) and 1 <= int(text) <= MAX_PAGE:
        return int(text)
    raise invalid("limit", f"Must be a whole number from 1 to {MAX_PAGE}.")


def page_start(query: Mapping[str, str]) -> str | None:
    """The flow after which the page begins, from the cursor of the page before."""
    text = query.get("cursor")
    if text is None:
        return None
    try:
        slug = base64.b64decode(text.encode("ascii"), altchars=b"-_", validate=True).decode("ascii")
    except (UnicodeError, binascii.Error):
        slug = ""
    if not _SLUG.fullmatch(slug) or cursor(slug) != text:
        raise invalid("cursor", "Is not one that this service gave out.")
    return slug


def cursor(slug: str) -> str:
    """The cursor of the page that begins after ``slug``."""
    return base64.urlsafe_b64encode(slug.encode("ascii")).decode("ascii")


def idempotency_key(lines: Sequence[str]) -> str | None:
    """The client's key, quoted or bare; None if it sent none."""
    if not lines:
        return None
    if len(lines) > 1:
        raise invalid(IDEMPOTENCY_KEY, "May be sent once only.")
    text = lines[0].strip()
    quoted = _QUOTED_KEY.fullmatch(text)
    key = re.sub(r"\\(.)", r"\1", quoted[1]) if quoted else text
    if not quoted and not _BARE_KEY.fullmatch(text):
        raise invalid(IDEMPOTENCY_KEY, "Must be printable ASCII, as it is or in double quotes.")
    if not 1 <= len(key) <= MAX_KEY_LENGTH:
        raise invalid(IDEMPOTENCY_KEY, f"Must have 1 to {MAX_KEY_LENGTH} characters.")
    return key


def invalid(name: str, detail: str) -> InvalidInput:
    """The fault of one parameter; a plain name, since a pointer points into the body."""
    return InvalidInput((FieldError(name, detail),))


def _flow_in_query(request: web.Request) -> str | None:
    """``flow=`` with its plus kept: ``flow=summary+premium`` names a variant, not a space."""
    for pair in request.rel_url.raw_query_string.split("&"):
        name, _, value = pair.partition("=")
        if name == "flow":
            return unquote(value)
    return None
