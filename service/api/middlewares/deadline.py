"""The last net: a request that is not answered within its budget gets a 504.

The budget starts at receipt and travels in a ContextVar; a slow dependency should have failed with
its own name before it runs out. Four cancellations look alike and are told apart here: ours, the
client's going away, the server's stopping, and one a driver made up.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler

from service.api import keys
from service.deadline import CURRENT, HEADER, Deadline, shortened
from service.errors import DeadlineExceeded, QueryTimeout

if TYPE_CHECKING:
    from service.api.keys import RequestRecord

log = structlog.get_logger()


@web.middleware
async def deadline(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Run the rest under the request's Deadline; raises DeadlineExceeded once it has passed.

    The plain way, with a timer for each request; the fast way asks a ``Sweep``.
    """
    limit_s = wanted_s(request, request.app[keys.SERVER].request_timeout)
    budget = give_budget(request[keys.RECORD], limit_s)
    # Remaining time on the loop's clock, which need not be the one budgets are counted on.
    scope = asyncio.timeout_at(asyncio.get_running_loop().time() + budget.remaining_s())
    try:
        async with scope:
            response = await handler(request)
    except (Exception, asyncio.CancelledError) as error:
        if meant := meaning(error, asyncio.current_task(), over=scope.expired()):
            raise meant from error
        raise
    if scope.expired():
        check_late(response)
    return response


def wanted_s(request: web.Request, limit_s: float) -> float:
    """Our limit, or less where the client waits for less."""
    return shortened(limit_s, request.headers.get(HEADER))


def give_budget(record: RequestRecord, seconds: float) -> Deadline:
    """Start the request's Deadline: all inner layers know it from here on."""
    budget = Deadline(record.received_s + seconds)
    CURRENT.set(budget)  # the server runs each request in a context of its own
    return budget


def meaning(
    error: BaseException, task: asyncio.Task[Any] | None, *, over: bool
) -> DeadlineExceeded | QueryTimeout | None:
    """What a failure stands for, if not for itself; ``over``: cancelled at its deadline.

    Our own cancellation has been taken back (``Task.uncancel``) before this is asked.
    """
    cancelled_by_others = task is not None and task.cancelling() > 0
    if isinstance(error, asyncio.CancelledError):
        if cancelled_by_others:
            return None  # the client went away, or the server stops
        if not over:
            # Nobody cancelled this request: a database driver gave up in its own way.
            return QueryTimeout("A dependency gave up on the request.")
    return DeadlineExceeded() if over else None


def check_late(response: web.StreamResponse) -> None:
    """The handler swallowed the cancellation. Its answer is late: the promise counts."""
    log.error("deadline_swallowed")
    if not response.prepared:
        raise DeadlineExceeded
