"""Failures as RFC 9457 problems: the one place that knows which exception is which status.

``type`` is ``urn:tollgate:problem:<code>`` (each is described in docs/api.md), but for a denied
request, whose type is the one registered with IANA.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from aiohttp import web

from service import errors
from service.api import unpacking

CONTENT_TYPE = "application/problem+json"
TYPE_PREFIX = "urn:tollgate:problem:"
QUOTA_EXCEEDED_TYPE = "https://iana.org/assignments/http-problem-types#quota-exceeded"
QUOTA_EXCEEDED_TITLE = "Request cannot be satisfied as assigned quota has been exceeded"

#: The status of each failure; a class not listed takes its nearest listed ancestor's.
STATUSES: Mapping[type[errors.TollgateError], HTTPStatus] = {
    errors.TollgateError: HTTPStatus.INTERNAL_SERVER_ERROR,
    errors.InvalidInput: HTTPStatus.BAD_REQUEST,
    errors.MalformedBody: HTTPStatus.BAD_REQUEST,
    errors.UnsupportedMediaType: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    errors.UnsupportedCoding: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    errors.BodyTooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    errors.BodyTooSlow: HTTPStatus.REQUEST_TIMEOUT,
    errors.ClientDenied: HTTPStatus.FORBIDDEN,
    errors.UnknownFlow: HTTPStatus.NOT_FOUND,
    errors.UnknownJob: HTTPStatus.NOT_FOUND,
    errors.NotAwaitingInput: HTTPStatus.BAD_REQUEST,  # as MIP-003 has it
    errors.RequestInProgress: HTTPStatus.CONFLICT,
    errors.IdempotencyMismatch: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.CostAboveBurst: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.DependencyError: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.QueryTimeout: HTTPStatus.GATEWAY_TIMEOUT,
    errors.PaymentOutcomeUnknown: HTTPStatus.GATEWAY_TIMEOUT,
    errors.PaymentRejected: HTTPStatus.BAD_GATEWAY,
    errors.DeadlineExceeded: HTTPStatus.GATEWAY_TIMEOUT,
    errors.Overloaded: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.Draining: HTTPStatus.SERVICE_UNAVAILABLE,
}
#: Failures that HTTP itself knows, by status: code and title.
HTTP_PROBLEMS: Mapping[int, tuple[str, str]] = {
    404: ("not-found", "There is nothing at this address"),
    405: ("method-not-allowed", "This address does not take this method"),
    413: (errors.BodyTooLarge.code, "The body is larger than this service accepts"),
}
#: What HTTP asks a failure to carry.
FIELDS: Mapping[type[errors.TollgateError], Mapping[str, str]] = {
    # The rest of the body may come yet, and is no request.
    errors.BodyTooSlow: {"Connection": "close"},
    errors.UnsupportedCoding: {"Accept-Encoding": unpacking.ACCEPTED},
}
#: Said for a passing failure of which nothing better is known.
DEFAULT_RETRY_AFTER_S = 2.0
_INTERNAL_TITLE = "Something in Tollgate failed"


@dataclass(frozen=True, slots=True)
class Problem:
    """One failure, ready to be written."""

    status: int
    code: str
    title: str
    detail: str | None = None
    errors: tuple[errors.FieldError, ...] = ()
    dependency: str | None = None
    retryable: bool | None = None
    retry_after_s: int | None = None
    type: str | None = None
    #: Members and fields beyond the common ones.
    extra: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)


def status_of(kind: type[errors.TollgateError]) -> HTTPStatus:
    """The status this failure is answered with."""
    return next(STATUSES[ancestor] for ancestor in kind.__mro__ if ancestor in STATUSES)


def title_of(kind: type[errors.TollgateError]) -> str:
    """The same for every occurrence: the failure's own first line."""
    return (kind.__doc__ or _INTERNAL_TITLE).splitlines()[0].rstrip(".")


def from_error(error: errors.TollgateError) -> Problem:
    """An expected failure as a problem; one of ours that nobody expected says nothing of itself."""
    kind = type(error)
    status = status_of(kind)
    if status == HTTPStatus.INTERNAL_SERVER_ERROR:
        return internal()
    dependency = error if isinstance(error, errors.DependencyError) else None
    retry_after_s = getattr(error, "retry_after_s", None)
    retryable: bool | None = None
    if status >= 500:
        retryable = dependency.retryable if dependency else True
        if retryable and retry_after_s is None:
            retry_after_s = DEFAULT_RETRY_AFTER_S
    return Problem(
        status=status,
        code=error.code,
        title=title_of(kind),
        detail=error.message,
        errors=error.errors if isinstance(error, errors.InvalidInput) else (),
        dependency=dependency.dependency if dependency else None,
        retryable=retryable,
        retry_after_s=None if retry_after_s is None else max(1, math.ceil(retry_after_s)),
        headers=FIELDS.get(kind, {}),
    )


def from_http(error: web.HTTPException) -> Problem:
    """What aiohttp's router or body reader refused."""
    fallback = (HTTPStatus(error.status).phrase.lower().replace(" ", "-"), error.reason)
    code, title = HTTP_PROBLEMS.get(error.status, fallback)
    headers = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
    return Problem(status=error.status, code=code, title=title, headers=headers)


def internal() -> Problem:
    """A fault of ours; what it was is in the log, under the request id, and nowhere else."""
    return Problem(
        status=500,
        code=errors.TollgateError.code,
        title=_INTERNAL_TITLE,
        detail="The failure is recorded under this request id.",
        retryable=False,
    )


def quota_exceeded(
    *,
    detail: str,
    violated: tuple[str, ...],
    retry_after_ms: int,
    headers: Mapping[str, str],
) -> Problem:
    """A denied request, with the names of every policy it ran into."""
    return Problem(
        status=429,
        code="quota-exceeded",
        type=QUOTA_EXCEEDED_TYPE,
        title=QUOTA_EXCEEDED_TITLE,
        detail=detail,
        retryable=True,
        extra={"violated-policies": list(violated), "retry-after-ms": retry_after_ms},
        headers=headers,
    )


def document(problem: Problem, *, request_id: str) -> dict[str, Any]:
    """The members of the problem as they are written."""
    members: dict[str, Any] = {
        "type": problem.type or TYPE_PREFIX + problem.code,
        "title": problem.title,
        "status": int(problem.status),
        "detail": problem.detail,
        "instance": f"urn:request:{request_id}",
        "request_id": request_id,
        "dependency": problem.dependency,
        "retryable": problem.retryable,
        "errors": [{"pointer": e.pointer, "detail": e.detail} for e in problem.errors] or None,
        **problem.extra,
    }
    return {name: value for name, value in members.items() if value is not None}


def render(problem: Problem, *, request_id: str) -> web.Response:
    """The answer; never stored by a cache."""
    headers = {"Cache-Control": "no-store", **problem.headers}
    if problem.retry_after_s is not None:
        headers.setdefault("Retry-After", str(problem.retry_after_s))
    body = json.dumps(document(problem, request_id=request_id)).encode()
    return web.Response(
        status=problem.status, body=body, content_type=CONTENT_TYPE, headers=headers
    )
