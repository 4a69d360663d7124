"""Outermost: the request's id, its client, and what every answer carries.

It must see every request and never raise.
"""

from __future__ import annotations

import asyncio
import random
import re
import time
from typing import TYPE_CHECKING

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler
from multidict import istr

from service import logs
from service.api import keys, ratelimit_fields
from service.api.keys import RequestRecord
from service.api.middlewares import access_line
from service.api.rendered import Rendered

if TYPE_CHECKING:
    from multidict import MultiMapping

    from service.api.identity import ClientIdentity

REQUEST_ID = istr("X-Request-Id")
#: What the log shows for a client that had gone before it was answered (nginx's convention).
CLIENT_GONE = 499
_REQUEST_ID_PATTERN = re.compile(r"[A-Za-z0-9._-]{1,128}")

_random = random.Random()  # noqa: S311 - ids to find a request by, not secrets; seeded per process
_OWN_HALF = (
    f"{_random.getrandbits(32):08x}-{_random.getrandbits(16):04x}-4{_random.getrandbits(12):03x}"
)


@web.middleware
async def context(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Identify the request, pass it on, stamp the answer, write the access line.

    The plain way. Inward goes a clone whose peer is ``-`` and whose method is a known one: both
    become labels of the exporter's metrics, which must stay few.
    """
    record = identify(request, request.app[keys.IDENTITY])
    inner = request.clone(
        remote="-",
        client_max_size=request.app[keys.SERVER].body_limit_bytes,
        method=known_method(request),
    )
    status = CLIENT_GONE
    try:
        response = await handler(inner)
        status = response.status
    except asyncio.CancelledError:
        raise
    except BaseException:
        status = 500
        raise
    finally:
        resource = request.match_info.route.resource
        route = resource.canonical if resource else None
        sample = request.app[keys.LOGGING].access_sample
        access_line.write(request.method, request.rel_url, record, status, route, sample=sample)
    stamp(response, record)
    return response


def identify(request: web.Request, identity: ClientIdentity) -> RequestRecord:
    """The record of a request that has just come in, known to all that is logged from here on."""
    record = record_of(request.headers, request.remote, identity)
    request[keys.RECORD] = record
    logs.REQUEST_ID.set(record.request_id)  # the server runs each request in a context of its own
    return record


def record_of(
    headers: MultiMapping[str], remote: str | None, identity: ClientIdentity
) -> RequestRecord:
    """The record of what has just come in from ``remote``, by its header fields."""
    offered = headers.get(REQUEST_ID)
    if offered is None or not _REQUEST_ID_PATTERN.fullmatch(offered):
        offered = _new_id()
    return RequestRecord(offered, identity.of(remote, headers), time.monotonic())


def known_method(request: web.Request) -> str:
    """A method fit to be a label."""
    method = request.method
    return method if method in hdrs.METH_ALL else "UNKNOWN"


def stamp(response: web.StreamResponse, record: RequestRecord) -> None:
    """What every answer carries: its id, and what is left of the limits it was asked under."""
    decision = record.decision if not 300 <= response.status < 400 else None
    if type(response) is Rendered:
        limits = "" if decision is None else ratelimit_fields.lines(decision)
        response.tell(f"X-Request-Id: {record.request_id}\r\n{limits}")
    elif not response.prepared:
        response.headers[REQUEST_ID] = record.request_id
        if decision is not None:
            response.headers.update(ratelimit_fields.fields(decision))


def _new_id() -> str:
    """A UUID (version 4) whose first half is this process's, at a quarter of ``uuid4``'s cost."""
    text = f"{_random.getrandbits(60):015x}"
    return f"{_OWN_HALF}-a{text[:3]}-{text[3:]}"
