"""Traces as a collector gets them: whole, connected, and telling nothing they should not."""

from __future__ import annotations

import asyncio
import io
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from structlog.testing import capture_logs

from service import logs
from service.api.middlewares import access_line
from service.app import create_app
from service.errors import ConfigurationError
from service.settings import TracingSettings, load
from service.tracing import spans
from tests.support.collector import Collector, Seen, collecting
from tests.support.gate import TEXT, OpenGate, problem
from tests.support.waiting import until

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = f"00-{TRACE}-b7ad6b7169203331-01"


@pytest.fixture
async def collector() -> AsyncIterator[Collector]:
    async with collecting() as running:
        yield running


def tracing(collector: Collector, **more: Any) -> dict[str, Any]:
    return {"enabled": True, "endpoint": collector.url, "sample_ratio": 1, **more}


def named(spans: list[Seen], name: str) -> list[Seen]:
    return [span for span in spans if span.name == name]


async def test_one_sale_is_one_connected_trace(collector: Collector, open_gate: OpenGate) -> None:
    gate = await open_gate(
        tracing=tracing(collector), payment={"poll_interval": 0.2}, jobs={"poll_interval": 0.2}
    )
    started = await gate.post(
        "/text-summary/start_job",
        {"identifier_from_purchaser": "a1b2c3d4e5f60718", "input_data": {"text": TEXT}},
        headers={"traceparent": PARENT, "tracestate": "shop=1"},
    )
    assert started.status == 200
    job_id = (await started.json())["id"]
    gate.pay(job_id)
    await gate.status("text-summary", job_id, until="completed")
    await until(lambda: bool(named(collector.of(TRACE), "settlement")))
    spans = collector.of(TRACE)
    ids = {span.span_id for span in spans}
    [request] = named(spans, "POST /{flow}/start_job")
    assert request.parent_id == PARENT.split("-")[2]
    assert request.attributes["tollgate.job_id"] == job_id
    assert request.attributes["http.response.status_code"] == 200
    assert all(span.parent_id in ids for span in spans if span is not request)
    assert {"admission", "cache", "payment", "payment attempt", "run", "runner"} <= {
        span.name for span in spans
    }
    assert named(spans, "database insert_job")
    for step in named(spans, "run") + named(spans, "settlement"):
        assert step.parent_id == request.span_id
        assert step.attributes["tollgate.job_id"] == job_id
    assert all(span.resource["service.name"] == "tollgate" for span in spans)
    # What was bought and who bought stays here.
    told = "".join(span.text for span in spans)
    assert TEXT not in told
    assert "Bees" not in told
    assert "a1b2c3d4e5f60718" not in told
    assert "127.0.0.1" not in told


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Any]]:
    """What is asked of others from now on: URL and header fields."""
    made: list[tuple[str, Any]] = []
    really = aiohttp.ClientSession._request

    async def watched(self: Any, method: str, url: Any, **more: Any) -> Any:
        made.append((str(url), dict(more.get("headers") or {})))
        return await really(self, method, url, **more)

    monkeypatch.setattr(aiohttp.ClientSession, "_request", watched)
    return made


@pytest.mark.parametrize("traced", [True, False])
async def test_payment_service_is_told_of_the_request_and_its_trace(
    collector: Collector, open_gate: OpenGate, sent: list[tuple[str, Any]], traced: bool
) -> None:
    gate = await open_gate(tracing=tracing(collector, enabled=traced))
    await gate.post(
        "/text-summary/start_job",
        {"identifier_from_purchaser": "a1b2c3d4e5f60718", "input_data": {"text": TEXT}},
        headers={"traceparent": PARENT, "tracestate": "shop=1", "X-Request-Id": "order-1"},
    )
    [fields] = [f for url, f in sent if url.endswith("/api/v1/payment") and "X-Request-Id" in f]
    assert fields["X-Request-Id"] == "order-1"
    if traced:
        await until(lambda: bool(named(collector.spans, "POST /{flow}/start_job")))
        attempt = next(s for s in named(collector.spans, "payment attempt") if s.trace_id == TRACE)
        assert fields["traceparent"] == f"00-{TRACE}-{attempt.span_id}-01"
        assert fields["tracestate"] == "shop=1"
    else:
        assert "traceparent" not in fields


async def test_failures_are_codes_and_only_our_own_are_errors(
    collector: Collector, open_gate: OpenGate
) -> None:
    gate = await open_gate(tracing=tracing(collector))
    await problem(await gate.get("/flows/none-such"), 404, "unknown-flow")
    gate.fault("POST /payment", "status", status=500)
    secret = "a text of the purchaser"
    answer = await gate.post(
        "/text-summary/start_job",
        {"identifier_from_purchaser": "a1b2c3d4e5f60718", "input_data": {"text": secret}},
    )
    assert answer.status == 503
    await until(lambda: len(named(collector.spans, "POST /{flow}/start_job")) == 1)
    await until(lambda: len(named(collector.spans, "GET /flows/{flow}")) == 1)
    [missing] = named(collector.spans, "GET /flows/{flow}")
    assert (missing.status, missing.attributes["tollgate.problem"]) == (0, "unknown-flow")
    [failed] = named(collector.spans, "POST /{flow}/start_job")
    assert (failed.status, failed.message) == (2, "payment-unavailable")
    attempts = named(collector.spans, "payment attempt")
    assert attempts
    assert attempts[0].message == "server-error"
    assert secret not in "".join(span.text for span in collector.spans)


@pytest.mark.parametrize(
    "value",
    [
        f"00-{TRACE}-0000000000000000-01",
        f"00-{'0' * 32}-b7ad6b7169203331-01",
        f"ff-{TRACE}-b7ad6b7169203331-01",
        f"00-{TRACE.upper()}-b7ad6b7169203331-01",
        f"00-{TRACE}-b7ad6b7169203331-01-more",
        f"00-{TRACE}-b7ad6b7169203331",
        "nonsense",
    ],
)
async def test_a_context_that_is_none_begins_a_new_trace(
    collector: Collector, open_gate: OpenGate, value: str
) -> None:
    gate = await open_gate(tracing=tracing(collector), flows=None)
    assert (await gate.get("/health", headers={"traceparent": value})).status == 200
    await until(lambda: bool(named(collector.spans, "GET /health")))
    [span] = named(collector.spans, "GET /health")
    assert span.trace_id != TRACE
    assert span.parent_id == ""


async def test_two_contexts_are_none(collector: Collector, open_gate: OpenGate) -> None:
    gate = await open_gate(tracing=tracing(collector), flows=None)
    twice = [("traceparent", PARENT), ("traceparent", PARENT)]
    assert (await gate.client.get("/health", headers=twice)).status == 200
    await until(lambda: bool(named(collector.spans, "GET /health")))
    assert collector.spans[0].trace_id != TRACE


@pytest.mark.parametrize(
    ("follow", "flags", "ratio", "recorded"),
    [(True, "01", 0, True), (True, "00", 1, False), (False, "01", 0, False)],
)
async def test_callers_decision_counts_where_it_is_to(
    collector: Collector,
    open_gate: OpenGate,
    follow: bool,
    flags: str,
    ratio: float,
    recorded: bool,
) -> None:
    settings = tracing(collector, sample_ratio=ratio, follow_callers=follow)
    gate = await open_gate(tracing=settings, flows=None)
    parent = f"00-{TRACE}-b7ad6b7169203331-{flags}"
    assert (await gate.get("/health", headers={"traceparent": parent})).status == 200
    await gate.client.close()  # delivers what there is
    assert bool(collector.of(TRACE)) is recorded


@pytest.mark.parametrize("fast", [True, False])
async def test_lines_of_the_log_name_the_trace(
    collector: Collector, open_gate: OpenGate, monkeypatch: pytest.MonkeyPatch, fast: bool
) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(logs, "json_stream", lambda: stream)
    gate = await open_gate(tracing=tracing(collector), server={"fast_answers": fast}, flows=None)
    answer = await gate.get("/flows", headers={"traceparent": PARENT, "X-Request-Id": "r-1"})
    assert answer.status == 200
    await asyncio.sleep(access_line.WAIT_S * 2)  # the line has been written
    await gate.client.close()
    [line] = [x for x in map(json.loads, stream.getvalue().splitlines()) if x["event"] == "request"]
    assert (line["request_id"], line["trace_id"]) == ("r-1", TRACE)
    [span] = named(collector.spans, "GET /flows")
    assert (span.trace_id, span.attributes["tollgate.request_id"]) == (TRACE, "r-1")


async def test_collector_that_is_away_costs_spans_and_one_line(
    collector: Collector, open_gate: OpenGate
) -> None:
    collector.status = 400
    with capture_logs() as lines:
        gate = await open_gate(tracing=tracing(collector), flows=None)
        for _ in range(3):
            posts = collector.posts
            assert (await gate.get("/livez")).status == 200
            await until(lambda before=posts: collector.posts > before)  # type: ignore[misc]
        collector.status = 200
        assert (await gate.get("/livez")).status == 200
        await until(lambda: bool(collector.spans))
        await asyncio.sleep(0.1)  # a second word about it would have come
    told = [line["event"] for line in lines if line["event"].startswith("traces_")]
    assert told == ["traces_not_delivered", "traces_delivered_again"]


def test_off_nothing_of_it_is_needed_or_imported() -> None:
    """In a process of its own. redis-py takes what it finds of it by itself: here it finds none."""
    program = (
        "import asyncio, sys\n"
        "sys.modules['opentelemetry'] = None\n"
        "import service.server, service.cli\n"
        "from service.app import create_app\n"
        "from service.settings import load\n"
        "settings = load().settings\n"
        "assert not settings.tracing.enabled\n"
        "asyncio.run(create_app(settings))\n"
        "print([n for n in sys.modules if n.startswith(('opentelemetry.', 'google.protobuf'))\n"
        "       or n == 'service.tracing.telemetry'])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=50
    )
    assert done.stdout.strip() == "[]"


def test_off_a_span_is_one_and_the_same_nothing() -> None:
    with spans.span("payment") as first, spans.span("run") as second:
        assert first is second is spans.NOTHING
    assert spans.outbound() == {}


async def test_without_its_packages_the_start_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in [name for name in sys.modules if name.startswith("opentelemetry")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delitem(sys.modules, "service.tracing.telemetry", raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    settings = load().settings.model_copy(update={"tracing": TracingSettings(enabled=True)})
    with pytest.raises(ConfigurationError, match=r"config/requirements/tracing\.lock"):
        await create_app(settings)
