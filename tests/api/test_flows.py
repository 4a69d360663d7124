"""What is for sale, and MIP-003's questions about one flow."""

from __future__ import annotations

import asyncio

import pytest

from service.api import keys
from service.breaker.models import Outcome
from service.mip.schema import InputSchema
from service.mip.validation import validate_input
from tests.support.gate import Gate, OpenGate, problem

SLUGS = ["csv-profile", "tailored-letter", "text-summary"]


async def open_circuit(gate: Gate) -> None:
    breaker = gate.app[keys.BREAKER]
    for _ in range(3):
        await breaker.report(await breaker.acquire(), Outcome.FAIL)


async def test_flows_are_listed_by_id(gate: Gate) -> None:
    answer = await gate.get("/flows")
    assert answer.status == 200
    body = await answer.json()
    assert [flow["id"] for flow in body["flows"]] == SLUGS
    assert "next" not in body


async def test_pages_join_to_the_whole_list(gate: Gate) -> None:
    seen, cursor = [], None
    for _ in range(len(SLUGS)):
        params = {"limit": "1", **({"cursor": cursor} if cursor else {})}
        body = await (await gate.get("/flows", params=params)).json()
        seen += [flow["id"] for flow in body["flows"]]
        cursor = body.get("next")
    assert seen == SLUGS
    assert cursor is None


@pytest.mark.parametrize("query", ["limit=0", "limit=101", "limit=x", "cursor=x", "cursor=%00"])
async def test_bad_page_is_refused(gate: Gate, query: str) -> None:
    await problem(await gate.get(f"/flows?{query}"), 400, "invalid-input")


async def test_one_flow_shows_how_it_is_sold(gate: Gate) -> None:
    flow = await (await gate.get("/flows/text-summary")).json()
    assert flow["id"] == "text-summary"
    assert flow["name"] == "Text summary"
    assert flow["version"] == "1.0.0"
    assert flow["default_variant"] == "standard"
    variants = {variant["name"]: variant for variant in flow["variants"]}
    assert variants["free"] == {"name": "free", "free": True, "requested_funds": []}
    assert variants["standard"]["agent_identifier"].startswith("e27d3c8b")
    assert flow["links"]["start_job"] == "/text-summary/start_job"
    assert "runner" not in flow


@pytest.mark.parametrize("path", ["/flows", "/flows/text-summary", "/text-summary/input_schema",
                                  "/text-summary/demo", "/openapi.json"])  # fmt: skip
async def test_what_is_known_is_not_sent_again(gate: Gate, path: str) -> None:
    first = await gate.get(path)
    tag = first.headers["ETag"]
    assert tag.startswith('"')
    again = await gate.get(path, headers={"If-None-Match": f'"other", {tag}'})
    assert again.status == 304
    assert again.headers["ETag"] == tag
    assert await again.read() == b""
    assert "RateLimit" not in again.headers
    other = await gate.get(path, headers={"If-None-Match": '"other"'})
    assert other.status == 200


@pytest.mark.parametrize(
    "path", ["/flows/nothing", "/nothing/input_schema", "/input_schema?flow=nothing",
             "/flows/%00", "/%00/demo", "/demo?flow=%00", "/demo?flow=%ed%a0%80",
             "/text-summary+gold/availability", "/availability?flow=text-summary%2Bgold"]
)  # fmt: skip
async def test_unknown_flow(gate: Gate, path: str) -> None:
    await problem(await gate.get(path), 404, "unknown-flow")


async def test_root_without_a_flow_says_what_to_do(gate: Gate) -> None:
    body = await problem(await gate.get("/availability"), 400, "invalid-input")
    assert "flow=" in body["errors"][0]["detail"]


async def test_root_serves_the_default_flow(open_gate: OpenGate) -> None:
    gate = await open_gate(server={"default_flow": "csv-profile"})
    assert (
        await (await gate.get("/demo")).json() == await (await gate.get("/csv-profile/demo")).json()
    )
    named = await (await gate.get("/demo?flow=text-summary")).json()
    assert named == await (await gate.get("/text-summary/demo")).json()


@pytest.mark.parametrize("reference", ["text-summary", "Text%20summary", "text-summary+free"])
async def test_flow_may_be_named_in_several_ways(gate: Gate, reference: str) -> None:
    assert (await gate.get(f"/flows/{reference}")).status == 200
    assert (await gate.get(f"/input_schema?flow={reference}")).status == 200


async def test_flow_may_be_named_by_its_uid(gate: Gate) -> None:
    flow = await (await gate.get("/flows/text-summary")).json()
    assert await (await gate.get(f"/flows/{flow['uid']}")).json() == flow


@pytest.mark.parametrize("slug", SLUGS)
async def test_input_schema_is_a_schema_of_the_standard(gate: Gate, slug: str) -> None:
    schema = await (await gate.get(f"/{slug}/input_schema")).json()
    assert set(schema) in ({"input_data"}, {"input_groups"})
    InputSchema.model_validate(schema)


@pytest.mark.parametrize("slug", SLUGS)
async def test_demo_is_valid_input_and_a_result(gate: Gate, slug: str) -> None:
    demo = await (await gate.get(f"/{slug}/demo")).json()
    assert set(demo) == {"input", "output"}
    assert demo["output"]["result"]
    schema = await (await gate.get(f"/{slug}/input_schema")).json()
    validate_input(InputSchema.model_validate(schema), demo["input"])


async def test_availability_is_what_registries_read(gate: Gate) -> None:
    answer = await gate.get("/text-summary/availability")
    assert answer.status == 200
    assert await answer.json() == {"status": "available", "type": "masumi-agent"}


async def test_open_circuit_makes_paid_variants_unavailable_and_free_ones_not(gate: Gate) -> None:
    await open_circuit(gate)
    paid = await gate.get("/text-summary/availability")
    assert paid.status == 200
    body = await paid.json()
    assert body["status"] == "unavailable"
    assert body["message"]
    free = await gate.get("/text-summary+free/availability")
    assert (await free.json())["status"] == "available"


async def test_open_circuit_refuses_paid_jobs_at_once_and_sells_free_ones(gate: Gate) -> None:
    await open_circuit(gate)
    calls = gate.payment_calls()
    sent = {"identifier_from_purchaser": "aabbccddeeff0011", "input_data": {"text": "x " * 20}}
    answer = await gate.post("/text-summary/start_job", sent)
    body = await problem(answer, 503, "payment-circuit-open")
    assert body["dependency"] == "payment"
    assert body["retryable"] is True
    assert int(answer.headers["Retry-After"]) >= 1
    assert gate.payment_calls() == calls
    free = await gate.post("/text-summary+free/start_job", sent)
    assert free.status == 200


@pytest.mark.parametrize(
    "path",
    ["/flows/", "/text-summary/availability/", "/health/", "/flows//", "/flows//text-summary"],
)
async def test_a_slash_too_many_is_no_redirect(gate: Gate, path: str) -> None:
    answer = await gate.get(path)
    assert answer.status == 404


@pytest.mark.parametrize(
    "path", ["/flows", "/flows/text-summary", "/text-summary/availability", "/health", "/livez"]
)
async def test_head_is_get_without_a_body(gate: Gate, path: str) -> None:
    get, head = await gate.get(path), await gate.client.head(path)
    assert head.status == get.status == 200
    assert await head.read() == b""
    assert head.headers["Content-Length"] == get.headers["Content-Length"]


async def test_unknown_query_parameters_are_ignored(gate: Gate) -> None:
    assert (await gate.get("/flows?utm_source=x&limit=2")).status == 200


async def test_many_readers_at_once_get_the_same(gate: Gate) -> None:
    answers = await asyncio.gather(*(gate.get("/flows/text-summary") for _ in range(30)))
    assert {answer.headers["ETag"] for answer in answers} == {answers[0].headers["ETag"]}
