"""The last net: a request that is not answered within its budget gets a 504.

The budget starts at receipt and travels in a ContextVar; a slow dependency should have failed with
its own name before it runs out. Four cancellations look alike and are told apart here: ours, the
client's going away, the server's stopping, and one a driver made up.
"""

from __future__ import annotations

import asyncio

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler

from service.api import keys
from service.deadline import CURRENT, Deadline
from service.errors import DeadlineExceeded, QueryTimeout

log = structlog.get_logger()


@web.middleware
async def deadline(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Run the rest under the request's Deadline; raises DeadlineExceeded once it has passed."""
    budget = Deadline(request[keys.RECORD].received_s + request.app[keys.SERVER].request_timeout)
    CURRENT.set(budget)  # the server runs each request in a context of its own
    # Remaining time on the loop's clock, which need not be the one budgets are counted on.
    scope = asyncio.timeout_at(asyncio.get_running_loop().time() + budget.remaining_s())
    try:
        async with scope:
            response = await handler(request)
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is not None and task.cancelling() == 0:
            # Nobody cancelled this request: a database driver gave up in its own way.
            raise QueryTimeout("A dependency gave up on the request.") from error
        raise
    except Exception as error:
        if scope.expired():
            raise DeadlineExceeded from error
        raise
    if scope.expired():
        # The handler swallowed the cancellation. Its answer is late: the promise counts.
        log.error("deadline_swallowed")
        if not response.prepared:
            raise DeadlineExceeded
    return response
