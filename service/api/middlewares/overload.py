"""The answer to a request this worker has no room for: the problem ``overloaded``, or
``database-busy`` where it is connections it lacks.

Reason for the template: under an overload most answers are these, and each must cost far less than
what it refuses. It is cut from the very text the plain way writes, so both send the same.
"""

from __future__ import annotations

import json
from functools import lru_cache
from http import HTTPStatus
from typing import TYPE_CHECKING, NamedTuple

from service.api import problems
from service.api.rendered import Rendered, start_of
from service.errors import DatabaseBusy, Overloaded

if TYPE_CHECKING:
    from aiohttp import web

    from service.api.keys import RequestRecord
    from service.overload.models import Short
    from service.overload.overload import Overload

_STATUS = int(problems.status_of(Overloaded))
#: Stands for what differs, in the text a template is cut from.
_REQUEST_ID = "\x01id\x01"
#: Different waits there may be; they are few, whole seconds.
_MOST_TEMPLATES = 64


async def turned_away(
    overload: Overload, record: RequestRecord, short: Short, *, fast: bool
) -> web.Response:
    """Held back a little, then told; nothing of the request is read, or charged."""
    await overload.hold()
    record.turned_away = True
    told, request_id = _told(short, overload.retry_after_s()), record.request_id
    record.problem, record.detail = told.problem.code, told.problem.detail
    if not fast:
        return problems.render(told.problem, request_id=request_id)
    body = f"{told.before}{request_id}{told.between}{request_id}{told.after}"
    return Rendered(_STATUS, told.start, body.encode())


class _Told(NamedTuple):
    """What is the same for all who are to wait as long; the body's parts have the id between."""

    problem: problems.Problem
    start: str
    before: str
    between: str
    after: str


@lru_cache(_MOST_TEMPLATES)
def _told(short: Short, retry_s: int) -> _Told:
    busy = short == "database"
    error = DatabaseBusy(retry_after_s=retry_s) if busy else Overloaded(retry_after_s=retry_s)
    problem = problems.from_error(error)
    fields = [
        ("Cache-Control", "no-store"),
        ("Retry-After", str(retry_s)),
        ("Content-Type", problems.CONTENT_TYPE),
    ]
    start = start_of(_STATUS, HTTPStatus(_STATUS).phrase, fields)
    body = json.dumps(problems.document(problem, request_id=_REQUEST_ID))
    return _Told(problem, start, *body.split(json.dumps(_REQUEST_ID)[1:-1]))
