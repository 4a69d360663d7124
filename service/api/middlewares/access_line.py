"""One line in the log for each request: who asked for what, and what became of it.

``access_sample`` is the share of requests that get one. Failures always do, a refusal for its
limit does not: a flood of those must not become a flood in the log.
"""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from aiohttp import web

    from service.api.keys import RequestRecord

_MAX_PATH = 200
_DENIED = 429

log = structlog.get_logger()
_random = random.Random()  # noqa: S311 - which requests to tell of, not secrets


def write(
    request: web.Request, record: RequestRecord, status: int, route: str | None, *, sample: float
) -> None:
    """Write the line of a request that has just ended, if it is to have one."""
    if sample < 1 and (status < 400 or status == _DENIED) and _random.random() >= sample:
        return
    optional = {
        "policy": record.policy,
        "flow": record.flow,
        "job": record.job,
        "problem": record.problem,
        "detail": record.detail,
    }
    tell = log.warning if status >= 500 else log.info
    tell(
        "request",
        method=request.method[:20],
        route=route,
        path=request.rel_url.raw_path[:_MAX_PATH].encode("ascii", "backslashreplace").decode(),
        status=status,
        duration_ms=round((time.monotonic() - record.received_s) * 1000, 2),
        client=record.client.address,
        **{name: value for name, value in optional.items() if value is not None},
    )
