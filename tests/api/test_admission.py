"""Limits as clients meet them: fields on every answer, and a 429 that keeps its word."""

from __future__ import annotations

import asyncio
import re
from typing import Any

from service.api import keys, problems
from service.api.routes import TABLE
from tests.support.gate import TEXT, Gate, OpenGate, problem

FIELD = re.compile(r'"(\w+)";r=(\d+);t=(\d+)')


async def denied(gate: Gate, path: str, times: int) -> Any:
    """The answer to one request more than the limit lets through."""
    for _ in range(times):
        assert (await gate.get(path)).status == 200
    return await gate.get(path)


async def test_every_answer_tells_what_is_left(open_gate: OpenGate) -> None:
    gate = await open_gate(limits={"flows": {"rate": "30/minute"}})
    for left in (29, 28):
        answer = await gate.get("/flows")
        assert answer.headers["RateLimit-Policy"] == '"flows";q=30;w=60'
        found = FIELD.fullmatch(answer.headers["RateLimit"])
        assert found
        assert (found[1], int(found[2])) == ("flows", left)
    failed = await gate.get("/flows/nothing")
    assert failed.status == 404
    assert '"flows";r=27' in failed.headers["RateLimit"]


async def test_denial_is_the_registered_problem(open_gate: OpenGate) -> None:
    gate = await open_gate(limits={"flows": {"rate": "3/minute"}})
    answer = await denied(gate, "/flows", 3)
    assert answer.status == 429
    assert answer.content_type == "application/problem+json"
    assert answer.headers["Cache-Control"] == "no-store"
    retry_after = int(answer.headers["Retry-After"])
    assert 1 <= retry_after <= 20
    found = FIELD.fullmatch(answer.headers["RateLimit"])
    assert found
    assert (int(found[2]), int(found[3])) == (0, retry_after)
    assert answer.headers["RateLimit-Policy"] == '"flows";q=3;w=60'
    body = await answer.json(content_type=None)
    assert body["type"] == problems.QUOTA_EXCEEDED_TYPE
    assert body["title"] == problems.QUOTA_EXCEEDED_TITLE
    assert body["violated-policies"] == ["flows"]
    assert 0 < body["retry-after-ms"] <= retry_after * 1000
    assert body["instance"] == f"urn:request:{answer.headers['X-Request-Id']}"


async def test_who_sleeps_retry_after_gets_in(open_gate: OpenGate) -> None:
    gate = await open_gate(limits={"flows": {"rate": "1/second"}})
    answer = await denied(gate, "/flows", 1)
    assert answer.status == 429
    await asyncio.sleep(int(answer.headers["Retry-After"]))
    assert (await gate.get("/flows")).status == 200


async def test_policies_are_counted_apart_and_clients_too(open_gate: OpenGate) -> None:
    gate = await open_gate(
        limits={"flows": {"rate": "1/hour"}}, server={"trusted_proxies": ("127.0.0.0/8",)}
    )
    first, second = {"X-Forwarded-For": "198.51.100.1"}, {"X-Forwarded-For": "198.51.100.2"}
    assert (await gate.get("/flows", headers=first)).status == 200
    assert (await gate.get("/flows", headers=first)).status == 429
    assert (await gate.get("/flows", headers=second)).status == 200
    assert (await gate.get("/text-summary/demo", headers=first)).status == 200


async def test_forged_addresses_mint_no_buckets(open_gate: OpenGate) -> None:
    gate = await open_gate(limits={"flows": {"rate": "1/hour"}})
    statuses = [
        (await gate.get("/flows", headers={"X-Forwarded-For": f"198.51.100.{i}"})).status
        for i in range(4)
    ]
    assert statuses == [200, 429, 429, 429]


async def test_unknown_addresses_are_limited_by_default(open_gate: OpenGate) -> None:
    gate = await open_gate(limits={"default": {"rate": "2/hour"}})
    statuses = [(await gate.get(f"/nowhere/{i}")).status for i in range(3)]
    assert statuses == [404, 404, 429]
    assert (await gate.get("/metrics")).status == 429
    assert (await gate.post("/flows")).status == 429  # no such method


async def test_denied_request_starts_nothing(open_gate: OpenGate) -> None:
    gate = await open_gate(limits={"start_job": {"rate": "1/hour"}})
    sent = {"input_data": {"text": TEXT}}
    assert (await gate.post("/text-summary+free/start_job", sent)).status == 200
    raw = await gate.post("/text-summary+free/start_job", data=b"not even json")
    assert raw.status == 429


async def test_same_limit_at_the_root_and_below_the_flow(open_gate: OpenGate) -> None:
    gate = await open_gate(limits={"demo": {"rate": "1/hour"}})
    assert (await gate.get("/text-summary/demo")).status == 200
    assert (await gate.get("/demo?flow=csv-profile")).status == 429


async def test_every_policy_of_the_table_is_configured(gate: Gate) -> None:
    named = {row.policy for row in TABLE if row.policy}
    assert named <= gate.app[keys.RULES].current.routes.keys()


async def test_closed_policy_without_redis_is_a_503(
    open_gate: OpenGate, private_valkey: Any
) -> None:
    server = private_valkey()
    gate = await open_gate(
        redis_url=server.url, limits={"flows": {"rate": "100/minute", "on_outage": "closed"}}
    )
    assert (await gate.get("/flows")).status == 200
    server.stop()
    answer = await gate.get("/flows")
    body = await problem(answer, 503, "redis-unavailable")
    assert body["dependency"] == "redis"
    assert int(answer.headers["Retry-After"]) >= 1
    # Other policies give out this worker's share, which starts empty.
    async with asyncio.timeout(20):
        while (await gate.get("/text-summary/demo")).status != 200:
            await asyncio.sleep(0.02)
