"""Every failure becomes a problem, returned and not raised: what passes the counting as an
exception is counted as a bug.
"""

from __future__ import annotations

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler

from service.api import keys, problems
from service.errors import TollgateError

log = structlog.get_logger()


@web.middleware
async def errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer with a problem; a failure nobody expected is logged with its stack trace, once."""
    try:
        return await handler(request)
    except Exception as error:  # noqa: BLE001  (whatever it is, the client gets an answer)
        return answer_to(error, request)


def answer_to(error: Exception, request: web.Request) -> web.Response:
    """The problem this failure is; a redirect, which is no failure, is raised again."""
    if isinstance(error, TollgateError):
        problem = problems.from_error(error)
    elif isinstance(error, web.HTTPException):
        if error.status < 400:
            raise error
        problem = problems.from_http(error)
    else:
        problem = problems.internal()
    if problem.status == 500 and not isinstance(error, web.HTTPException):
        log.error("request_crashed", exc_info=error)
    record = request[keys.RECORD]
    record.problem = problem.code
    record.detail = problem.detail
    if request.writer.output_size > 0 and request.transport is not None:
        # An answer has begun: a second status line would be read as part of its body. With the
        # transport gone, nothing of what is returned here can be written.
        request.transport.abort()
    return problems.render(problem, request_id=record.request_id)
