"""Outermost: the request's id, its client, its access line, and what every answer carries.

It must see every request and never raise. Inward goes a clone whose peer is ``-`` and whose method
is a known one: both become labels of the exporter's metrics, which must stay few.
"""

from __future__ import annotations

import asyncio
import random
import re
import time
from uuid import UUID

import structlog
from aiohttp import hdrs, web
from aiohttp.typedefs import Handler

from service.api import keys
from service.api.keys import RequestRecord

REQUEST_ID = "X-Request-Id"
_REQUEST_ID_PATTERN = re.compile(r"[A-Za-z0-9._-]{1,128}")
#: What the log shows for a client that had gone before it was answered (nginx's convention).
CLIENT_GONE = 499
_MAX_PATH = 200

log = structlog.get_logger()
_random = random.Random()  # noqa: S311 - ids to find a request by, not secrets; seeded per process


@web.middleware
async def context(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Identify the request, pass it on, stamp the answer, write the access line."""
    record = RequestRecord(
        request_id=_request_id(request),
        client=request.app[keys.IDENTITY].of(request.remote, request.headers),
    )
    request[keys.RECORD] = record
    structlog.contextvars.bind_contextvars(request_id=record.request_id)
    inner = request.clone(
        remote="-",
        client_max_size=request.app[keys.SERVER].body_limit_bytes,
        method=request.method if request.method in hdrs.METH_ALL else "UNKNOWN",
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
        _write_access_line(request, record, status)
    if not response.prepared:
        response.headers[REQUEST_ID] = record.request_id
        if not 300 <= response.status < 400:
            response.headers.update(record.limit_fields)
    return response


def _request_id(request: web.Request) -> str:
    offered = request.headers.get(REQUEST_ID, "")
    if _REQUEST_ID_PATTERN.fullmatch(offered):
        return offered
    return str(UUID(int=_random.getrandbits(128), version=4))


def _write_access_line(request: web.Request, record: RequestRecord, status: int) -> None:
    sample = request.app[keys.LOGGING].access_sample
    if status < 400 and sample < 1 and _random.random() >= sample:
        return
    resource = request.match_info.route.resource
    optional = {
        "policy": record.policy,
        "flow": record.flow,
        "job": record.job,
        "problem": record.problem,
        "detail": record.detail,
    }
    write = log.warning if status >= 500 else log.info
    write(
        "request",
        method=request.method[:20],
        route=resource.canonical if resource else None,
        path=request.rel_url.raw_path[:_MAX_PATH].encode("ascii", "backslashreplace").decode(),
        status=status,
        duration_ms=round((time.monotonic() - record.received_s) * 1000, 2),
        client=record.client.address,
        **{name: value for name, value in optional.items() if value is not None},
    )
