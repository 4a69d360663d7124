"""The shape of a row of the route table: what is served, and what is promised about it."""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus

from aiohttp.typedefs import Handler
from pydantic import BaseModel

from service import errors
from service.api import problems

#: What any route that reads from PostgreSQL may answer.
READS = (errors.DatabaseUnavailable, errors.QueryTimeout)


@dataclass(frozen=True, slots=True)
class Operation:
    """What the OpenAPI document says of a route, beside what follows from the rest of it."""

    summary: str
    tag: str
    #: Names in ``openapi.PARAMETERS``.
    parameters: tuple[str, ...] = ()
    body: type[BaseModel] | None = None
    answers: tuple[type[BaseModel], ...] = ()
    #: The media type of an answer that is no JSON.
    media_type: str = "application/json"
    #: Answers 304 to a client that has the present bytes.
    conditional: bool = False
    #: Fields of the answer, names in ``openapi.HEADERS``.
    headers: tuple[str, ...] = ()
    #: Answers 503 with the same body as 200 (a probe).
    probe: bool = False
    #: The failures of its own; those of every route are added.
    failures: tuple[type[errors.TollgateError], ...] = ()


@dataclass(frozen=True, slots=True)
class Route:
    """One row: GET rows answer HEAD too; ``policy`` None is counted against no one."""

    method: str
    path: str
    handler: Handler
    name: str
    policy: str | None
    operation: Operation | None = None

    def failures(self) -> dict[int, tuple[str, ...]]:
        """Every status above 399 this route can answer, with the codes of its problems."""
        if self.operation is None:
            return {}
        found: dict[int, dict[str, None]] = {
            HTTPStatus.INTERNAL_SERVER_ERROR: {errors.TollgateError.code: None}
        }
        kinds = [*self.operation.failures, errors.DeadlineExceeded]
        if self.operation.body is not None:
            kinds += [errors.MalformedBody, errors.BodyTooLarge, errors.BodyTooSlow]
            kinds += [errors.UnsupportedMediaType, errors.UnsupportedCoding]
        if self.policy is not None:
            found[HTTPStatus.TOO_MANY_REQUESTS] = {"quota-exceeded": None}
            kinds += [errors.ClientDenied, errors.Overloaded, errors.StoreUnavailable]
        for kind in kinds:
            for each in _with_descendants(kind):
                found.setdefault(problems.status_of(each), {})[each.code] = None
        return {int(status): tuple(codes) for status, codes in sorted(found.items())}


def _with_descendants(kind: type[errors.TollgateError]) -> list[type[errors.TollgateError]]:
    # A package's own kinds never leave it: the contract does not hang on what is imported.
    ours = [child for child in kind.__subclasses__() if child.__module__ == errors.__name__]
    below = [deep for child in ours for deep in _with_descendants(child)]
    return [kind, *below]
