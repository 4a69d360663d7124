"""The OpenAPI 3.1 document, made from the route table and the models."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from http import HTTPStatus
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

import service
from service import errors
from service.api import problems, schemas
from service.api.contract import Operation, Route

_REF = "#/components/schemas/{model}"
_TEXT = {"type": "string"}
_NAME = {"type": "string", "minLength": 1}
_DESCRIPTION = (
    "Sells runs of AI flows (MIP-003). Failures are problems (RFC 9457); their types are described"
    " in docs/api.md. A request over its limit is answered 429 with Retry-After."
)


def _parameter(name: str, place: str, schema: dict[str, Any], text: str) -> dict[str, Any]:
    required = place == "path"
    described = {"name": name, "in": place, "required": required, "description": text}
    return {**described, "schema": schema}


#: By the names the route table uses.
PARAMETERS: dict[str, dict[str, Any]] = {
    "flow": _parameter(
        "flow",
        "path",
        {**_NAME, "examples": ["text-summary"]},
        "The flow; `id+variant` for one variant of it.",
    ),
    "flow=": _parameter(
        "flow",
        "query",
        {**_TEXT, "examples": ["text-summary"]},
        "The flow, where no default is configured.",
    ),
    "job_id": {
        **_parameter("job_id", "query", _NAME, "The job, as start_job named it."),
        "required": True,
    },
    "wait": _parameter(
        "wait",
        "query",
        {"type": "number", "minimum": 0, "maximum": 25},
        "Seconds to wait for a change of a status the client has: the one named by status_id or"
        " If-None-Match, else the present one.",
    ),
    "status_id": _parameter("status_id", "query", _TEXT, "With wait: the status the client has."),
    "limit": _parameter(
        "limit",
        "query",
        {"type": "integer", "minimum": 1, "maximum": 100, "default": 20},
        "How many flows.",
    ),
    "cursor": _parameter("cursor", "query", _NAME, "`next` of the page before."),
    "Idempotency-Key": _parameter(
        "Idempotency-Key",
        "header",
        {**_NAME, "maxLength": 257},
        "The same key with the same request gets the first answer again, for a day.",
    ),
    "If-None-Match": _parameter("If-None-Match", "header", _TEXT, "ETags the client has."),
    "X-Request-Id": _parameter(
        "X-Request-Id",
        "header",
        _TEXT,
        "1 to 128 letters, digits, dots, dashes, underscores; anything else is replaced.",
    ),
}
#: Where an answer leads: by operation, the operations that take something from it.
LINKS: dict[str, dict[str, dict[str, str]]] = {
    "flows": {
        name: {"path.flow": "$response.body#/flows/0/id"}
        for name in ("flow", "start_job", "availability", "input_schema", "demo")
    },
    "start_job": {
        "status": {"path.flow": "$request.path.flow", "query.job_id": "$response.body#/id"},
    },
    "status": {"provide_input": {"path.flow": "$request.path.flow"}},
}
#: By name: what they tell.
HEADERS: dict[str, dict[str, Any]] = {
    "X-Request-Id": {"schema": _TEXT, "description": "The request's id, as in the log."},
    "RateLimit-Policy": {"schema": _TEXT, "description": "Quota and window (IETF draft)."},
    "RateLimit": {"schema": _TEXT, "description": "What is left, and until when (IETF draft)."},
    "Retry-After": {
        "schema": {"type": "integer", "minimum": 1},
        "description": "Seconds after which to try again.",
    },
    "ETag": {"schema": _TEXT, "description": "Equal as long as the answer is, byte for byte."},
    "Cache-Control": {
        "schema": _TEXT,
        "description": "`no-cache`: keep it, and ask with If-None-Match before each use.",
    },
    "Age": {
        "schema": {"type": "integer", "minimum": 0},
        "description": "Seconds since this was read from the database.",
    },
    "Cache-Status": {
        "schema": _TEXT,
        "description": "Only on an answer that is older than it should be, because it could not be"
        " read anew: `tollgate; hit; detail=refresh-failed` (RFC 9211).",
    },
    "Vary": {"schema": _TEXT, "description": "`Accept-Encoding`: gzip for those who take it."},
    "Accept-Encoding": {
        "schema": _TEXT,
        "description": "Which codings a body may be sent in, where it came in another.",
    },
    "Idempotent-Replayed": {
        "schema": {"const": "true"},
        "description": "Present when an earlier request had started this job.",
    },
}


def document(table: Sequence[Route]) -> dict[str, Any]:
    """The document for these rows."""
    described = [(row, row.operation) for row in table if row.operation is not None]
    paths: dict[str, dict[str, Any]] = {}
    for row, operation in described:
        paths.setdefault(row.path, {})[row.method.lower()] = _operation(row, operation)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Tollgate",
            "version": service.__version__,
            "description": _DESCRIPTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": tag} for tag in dict.fromkeys(op.tag for _, op in described)],
        "paths": paths,
        "components": {
            "schemas": _schemas(op for _, op in described),
            "parameters": {_component(name): value for name, value in PARAMETERS.items()},
            "headers": HEADERS,
        },
    }


def render(table: Sequence[Route]) -> bytes:
    """The document as it is served."""
    return json.dumps(document(table), ensure_ascii=False).encode()


def _operation(row: Route, operation: Operation) -> dict[str, Any]:
    names = [*operation.parameters, *(["If-None-Match"] if operation.conditional else [])]
    described: dict[str, Any] = {
        "operationId": row.name,
        "summary": operation.summary,
        "tags": [operation.tag],
        "parameters": [
            {"$ref": f"#/components/parameters/{_component(name)}"}
            for name in (*names, "X-Request-Id")
        ],
        "responses": {**_successes(row, operation), **_failures(row, operation)},
    }
    if operation.body is not None:
        schema = {"$ref": _REF.format(model=operation.body.__name__)}
        described["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": schema}},
        }
    return described


def _successes(row: Route, operation: Operation) -> dict[str, Any]:
    cache = ("ETag", "Cache-Control") if operation.conditional else ()
    headers = ("X-Request-Id", *_limit_headers(row), *cache, *operation.headers)
    ok: dict[str, Any] = {
        "description": "OK",
        "headers": _headers(headers),
        "content": {operation.media_type: {"schema": _answer_schema(operation)}},
    }
    if links := LINKS.get(row.name):
        ok["links"] = {
            name: {"operationId": name, "parameters": parameters}
            for name, parameters in links.items()
        }
    answers = {"200": ok}
    if operation.conditional:
        answers["304"] = {
            "description": "The client has the present answer.",
            "headers": _headers(("X-Request-Id", *cache, *operation.headers)),
        }
    if operation.probe:
        answers["503"] = {**ok, "description": "Not now."}
    return answers


def _failures(row: Route, operation: Operation) -> dict[str, Any]:
    answers = {}
    problem = {"schema": {"$ref": _REF.format(model=schemas.ProblemView.__name__)}}
    for status, codes in row.failures().items():
        retry = ("Retry-After",) if status in (409, 429, 502, 503, 504) else ()
        coding = ("Accept-Encoding",) if errors.UnsupportedCoding.code in codes else ()
        answers[str(status)] = {
            "description": f"{HTTPStatus(status).phrase}: {', '.join(codes)}.",
            "headers": _headers(("X-Request-Id", *_limit_headers(row), *retry, *coding)),
            "content": {problems.CONTENT_TYPE: problem},
        }
    return answers


def _answer_schema(operation: Operation) -> dict[str, Any]:
    if not operation.answers:
        return {"type": "object"} if operation.media_type == "application/json" else _TEXT
    refs = [{"$ref": _REF.format(model=model.__name__)} for model in operation.answers]
    return refs[0] if len(refs) == 1 else {"anyOf": refs}


def _limit_headers(row: Route) -> tuple[str, ...]:
    return ("RateLimit-Policy", "RateLimit") if row.policy else ()


def _headers(names: Iterable[str]) -> dict[str, Any]:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _component(name: str) -> str:
    return "flow-query" if name == "flow=" else name


def _schemas(operations: Iterable[Operation]) -> dict[str, Any]:
    used: dict[tuple[type[BaseModel], Any], None] = {(schemas.ProblemView, "serialization"): None}
    for operation in operations:
        if operation.body is not None:
            used[operation.body, "validation"] = None
        used.update(dict.fromkeys((model, "serialization") for model in operation.answers))
    _, definitions = models_json_schema(list(used), ref_template=_REF, by_alias=True)
    found: dict[str, Any] = definitions["$defs"]
    return found
