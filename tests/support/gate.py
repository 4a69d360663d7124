"""The whole public application on real servers, selling the demonstration flows."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from aiohttp import ClientResponse, web
from aiohttp.test_utils import TestClient
from openapi_schema_validator import OAS31Validator

from scripts.sandbox import control
from scripts.sandbox.faults import Fault
from scripts.sandbox.keys import Sandbox
from service.api import openapi
from service.api.contract import Route
from service.api.routes import TABLE
from service.settings import LimitSettings

FLOWS = Path(__file__).parents[2] / "config" / "flows" / "demonstration.toml"
IDENTIFIER = "a1b2c3d4e5f60718"
TEXT = "Bees make honey. Bees live in hives. A hive has one queen. Rain falls in spring."
#: Far from anything a test sends; tests of limits set their own.
ROOMY = {name: {"rate": "100000/minute"} for name in LimitSettings().route_classes}


DOCUMENT = openapi.document(TABLE)
DESCRIBED = [row for row in TABLE if row.operation is not None]


@dataclass(slots=True)
class Gate:
    """A running public application and the sandbox it is paid through."""

    client: TestClient[web.Request, web.Application]
    app: web.Application
    sandbox: Sandbox
    database_url: str

    async def get(self, path: str, **options: Any) -> ClientResponse:
        answer = await self.client.get(path, allow_redirects=False, **options)
        await keeps_contract(answer)
        return answer

    async def post(self, path: str, body: Any = None, **options: Any) -> ClientResponse:
        if body is not None:
            options["json"] = body
        answer = await self.client.post(path, allow_redirects=False, **options)
        await keeps_contract(answer)
        return answer

    async def buy(self, flow: str = "text-summary", **body: Any) -> dict[str, Any]:
        """A started job's answer."""
        sent = {
            "identifier_from_purchaser": IDENTIFIER,
            "input_data": {"text": TEXT},
            **body,
        }
        answer = await self.post(f"/{flow}/start_job", sent)
        assert answer.status == 200, await answer.text()
        started: dict[str, Any] = await answer.json()
        return started

    async def status(self, flow: str, job_id: str, *, until: str | None = None) -> dict[str, Any]:
        """The job's status, or as soon as it is ``until``."""
        async with asyncio.timeout(30):
            while True:
                answer = await self.get(f"/{flow}/status", params={"job_id": job_id})
                assert answer.status == 200, await answer.text()
                seen: dict[str, Any] = await answer.json()
                if until in (None, seen["status"]):
                    return seen
                await asyncio.sleep(0.05)

    def pay(self, job_id: str) -> None:
        record = self.sandbox.ledger.get(job_id)
        assert record is not None
        at_ms = self.sandbox.ledger.now_ms()
        self.sandbox.ledger.change(record, lambda r: control.ACTIONS["lock"](r, at_ms))

    def fault(self, route: str, kind: str, **more: Any) -> None:
        self.sandbox.faults.add(Fault.model_validate({"route": route, "kind": kind, **more}))

    def payment_calls(self) -> int:
        return self.sandbox.calls["POST /payment"]


OpenGate = Callable[..., Awaitable[Gate]]


async def keeps_contract(answer: ClientResponse) -> None:
    """Status, fields and body are ones the OpenAPI document promises for this route."""
    row = next((row for row in DESCRIBED if _answered(row, answer)), None)
    if row is None or answer.status == 405:
        return
    responses = DOCUMENT["paths"][row.path][row.method.lower()]["responses"]
    assert str(answer.status) in responses, f"undocumented: {answer.status} of {row.path}"
    promised = responses[str(answer.status)]
    required = {"X-Request-Id"} | {"ETag"} & set(promised["headers"])
    assert all(name in answer.headers for name in required)
    if answer.status == 304:
        return
    (media_type,) = promised["content"]
    assert answer.content_type == media_type
    if media_type.endswith("json"):
        body = await answer.json(content_type=None)
        _validator(json.dumps(promised["content"][media_type]["schema"])).validate(body)


@lru_cache
def _validator(schema: str) -> OAS31Validator:
    return OAS31Validator({"components": DOCUMENT["components"], **json.loads(schema)})


def _answered(row: Route, answer: ClientResponse) -> bool:
    pattern = re.sub(
        r"\{\w+\}", "[^/]+", re.escape(row.path).replace(r"\{", "{").replace(r"\}", "}")
    )
    return row.method == answer.method and bool(re.fullmatch(pattern, answer.url.raw_path))


async def problem(answer: ClientResponse, status: int, code: str) -> dict[str, Any]:
    """The answer is this problem, whole and consistent."""
    assert answer.status == status, await answer.text()
    assert answer.content_type == "application/problem+json"
    assert answer.headers["Cache-Control"] == "no-store"
    body: dict[str, Any] = await answer.json(content_type=None)
    assert body["type"] == f"urn:tollgate:problem:{code}"
    assert body["status"] == status
    assert body["title"]
    assert body["request_id"] == answer.headers["X-Request-Id"]
    assert body["instance"] == f"urn:request:{body['request_id']}"
    return body
