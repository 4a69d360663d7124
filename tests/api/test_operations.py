"""How the service tells of itself."""

from __future__ import annotations

import asyncio
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

import service
from service.api import keys
from service.app import create_internal_app
from service.breaker.models import Outcome
from service.settings import load
from tests.support.gate import Gate, OpenGate, problem


async def test_health_tells_version_and_breaker(gate: Gate) -> None:
    answer = await gate.get("/health")
    assert answer.status == 200
    assert await answer.json() == {
        "status": "ok",
        "version": service.__version__,
        "breaker": "closed",
    }


async def test_health_is_degraded_but_200_while_the_circuit_is_open(gate: Gate) -> None:
    breaker = gate.app[keys.BREAKER]
    for _ in range(3):
        await breaker.report(await breaker.acquire(), Outcome.FAIL)
    async with asyncio.timeout(20):
        while (await (await gate.get("/health")).json())["breaker"] != "open":
            await asyncio.sleep(0.1)
    answer = await gate.get("/health")
    assert answer.status == 200
    assert (await answer.json())["status"] == "degraded"
    detailed = await (await gate.get("/health/detailed")).json()
    latest = detailed["components"]["payment"]["detail"]["history"][0]
    assert set(latest) == {"at", "from", "to", "cause"}  # who and where is nobody's business
    assert (latest["from"], latest["to"], latest["cause"]) == ("closed", "open", "failures")


async def test_detailed_health_names_every_component(gate: Gate) -> None:
    body = await (await gate.get("/health/detailed")).json()
    assert set(body["components"]) >= {"redis", "postgres", "cache", "payment"}
    for component in body["components"].values():
        assert component["state"] == "ok"
        assert component["latency_ms"] >= 0
    assert body["modes"] == []
    assert body["components"]["postgres"]["detail"]["pool_size"] >= 1


async def test_probes_are_limited_by_nothing(open_gate: OpenGate) -> None:
    gate = await open_gate(limits={"default": {"rate": "1/hour"}})
    for _ in range(5):
        for path in ("/livez", "/readyz"):
            answer = await gate.get(path)
            assert answer.status == 200
            assert await answer.json() == {"status": "ok"}
            assert "RateLimit" not in answer.headers


async def test_draining_worker_is_unready_alive_and_still_serves(gate: Gate) -> None:
    gate.app[keys.DRAINING].draining = True
    ready = await gate.get("/readyz")
    assert ready.status == 503
    assert await ready.json() == {"status": "draining"}
    assert (await gate.get("/livez")).status == 200
    assert (await gate.get("/flows")).status == 200


async def test_worker_without_a_connection_of_its_own_is_unready(
    open_gate: OpenGate, private_postgres: Any
) -> None:
    server = private_postgres()
    server.stop()
    gate = await open_gate(database_url=server.url, flows=None)
    ready = await gate.get("/readyz")
    assert ready.status == 503
    assert await ready.json() == {"status": "starting"}
    assert (await gate.get("/livez")).status == 200
    assert (await gate.get("/health")).status == 200
    await problem(await gate.get("/flows"), 503, "database-unavailable")


async def test_metrics_count_requests_without_naming_clients(gate: Gate) -> None:
    await gate.get("/flows/text-summary")
    await gate.get("/nowhere")
    answer = await gate.get("/metrics")
    assert answer.status == 200
    assert answer.content_type == "text/plain"
    families = {f.name: f for f in text_string_to_metric_families(await answer.text())}
    samples = families["aiohttp_responses"].samples
    assert {sample.labels["remote"] for sample in samples} == {"-"}
    seen = {(sample.labels["path_template"], sample.labels["status_code"]) for sample in samples}
    assert {("/flows/{flow}", "200"), ("__not_matched__", "404")} <= seen
    # A 404 is an answer, not an exception.
    assert not families["aiohttp_exceptions"].samples
    assert [
        sample.value
        for sample in families["tollgate_admission_decisions"].samples
        if sample.labels == {"policy": "flows", "outcome": "allowed"}
        and sample.name.endswith("_total")
    ] == [1.0]


async def test_internal_listener_serves_probes_and_metrics_only(
    gate: Gate, aiohttp_client: Any
) -> None:
    internal = await aiohttp_client(await create_internal_app(load().settings, gate.app))
    for path in ("/livez", "/readyz", "/metrics"):
        answer = await internal.get(path)
        assert answer.status == 200
        assert "RateLimit" not in answer.headers
    await problem(await internal.get("/flows"), 404, "not-found")
