"""Every failure becomes a problem, returned and not raised: what passes the exporter as an
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
    except web.HTTPException as error:
        if error.status < 400:
            raise
        return _answer(request, problems.from_http(error))
    except TollgateError as error:
        problem = problems.from_error(error)
        if problem.status == 500:
            log.error("request_crashed", exc_info=error)
        return _answer(request, problem)
    except Exception as error:
        log.error("request_crashed", exc_info=error)
        return _answer(request, problems.internal())


def _answer(request: web.Request, problem: problems.Problem) -> web.Response:
    record = request[keys.RECORD]
    record.problem = problem.code
    record.detail = problem.detail
    if request.writer.output_size > 0 and request.transport is not None:
        # An answer has begun: a second status line would be read as part of its body. With the
        # transport gone, nothing of what is returned here can be written.
        request.transport.abort()
    return problems.render(problem, request_id=record.request_id)
