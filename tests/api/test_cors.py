"""Pages of other origins: off by default; with an origin named, they may read the limits too."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.gate import Gate, OpenGate

SHOP = "https://shop.example"
EXPOSED = {
    "Accept-Encoding", "Age", "Cache-Status", "ETag", "Idempotent-Replayed",
    "RateLimit", "RateLimit-Policy", "Retry-After", "X-Request-Id",
}  # fmt: skip
#: All that docs/api.md says a client may send, beyond what a page always may.
ACCEPTED = {
    "Authorization", "Content-Encoding", "Content-Type", "Idempotency-Key", "If-None-Match",
    "Traceparent", "Tracestate", "X-API-Key", "X-Request-Id", "X-Request-Timeout-Ms",
}  # fmt: skip
CORS_FIELDS = ("Access-Control-Allow-Origin", "Access-Control-Expose-Headers")


@pytest.fixture(params=[True, False], ids=["fast", "plain"])
def open_shop(open_gate: OpenGate, request: pytest.FixtureRequest) -> Any:
    async def opened(*origins: str, **limits: Any) -> Gate:
        server = {"fast_answers": request.param, "cors_origins": origins}
        return await open_gate(server=server, limits=limits)

    return opened


async def test_off_by_default(gate: Gate) -> None:
    answer = await gate.get("/health", headers={"Origin": SHOP})
    assert not any(field in answer.headers for field in CORS_FIELDS)
    assert (await gate.client.options("/health", headers={"Origin": SHOP})).status == 405


@pytest.mark.parametrize("path", ["/health", "/flows", "/nowhere"])
async def test_a_named_origin_may_read_answers_refusals_and_failures(
    open_shop: Any, path: str
) -> None:
    once = {"rate": "1/hour"}
    gate = await open_shop(SHOP, health=once, flows=once, default=once)
    for status in (404 if path == "/nowhere" else 200, 429):
        answer = await gate.get(path, headers={"Origin": SHOP})
        assert answer.status == status
        assert answer.headers["Access-Control-Allow-Origin"] == SHOP
        assert set(answer.headers["Access-Control-Expose-Headers"].split(", ")) == EXPOSED
        assert "Origin" in answer.headers.getall("Vary")


async def test_others_may_not(open_shop: Any) -> None:
    gate = await open_shop(SHOP)
    for headers in ({"Origin": "https://else.example"}, {}):
        answer = await gate.get("/flows", headers=headers)
        assert answer.status == 200
        assert not any(field in answer.headers for field in CORS_FIELDS)
        assert "Origin" in answer.headers.getall("Vary")


async def test_any_origin_may_if_all_are_named(open_shop: Any) -> None:
    gate = await open_shop("*")
    answer = await gate.get("/flows", headers={"Origin": SHOP})
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert "Origin" not in answer.headers.getall("Vary", [])


async def test_preflights_are_answered_and_counted_against_no_one(open_shop: Any) -> None:
    gate = await open_shop(SHOP, start_job={"rate": "1/hour"}, default={"rate": "1/hour"})
    for _ in range(3):
        answer = await gate.client.options(
            "/text-summary/start_job",
            headers={"Origin": SHOP, "Access-Control-Request-Method": "POST"},
        )
        assert answer.status == 204
        assert answer.headers["Access-Control-Allow-Origin"] == SHOP
        assert answer.headers["Access-Control-Allow-Methods"] == "POST"
        assert set(answer.headers["Access-Control-Allow-Headers"].split(", ")) == ACCEPTED
        assert int(answer.headers["Access-Control-Max-Age"]) > 0
        assert "RateLimit" not in answer.headers
        assert await answer.read() == b""
    flows = await gate.client.options("/flows", headers={"Origin": SHOP})
    assert flows.headers["Access-Control-Allow-Methods"] == "GET, HEAD"
