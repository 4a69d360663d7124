"""Collectors, the exporter's middleware, and the page that sums several processes."""

import os
import re
import subprocess
import sys
from pathlib import Path

from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from service.database import PoolStatus
from service.metrics import Metrics, http_middleware, page_handler
from service.shared_counts import take_over

ROOT = Path(__file__).parents[3]


async def page(registry: CollectorRegistry) -> web.Response:
    response = await page_handler(registry)(make_mocked_request("GET", "/metrics"))
    assert isinstance(response, web.Response)
    return response


async def text(registry: CollectorRegistry) -> str:
    body = (await page(registry)).body
    assert isinstance(body, bytes)
    return body.decode()


async def test_page_is_prometheus_text_and_shows_what_was_counted() -> None:
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    metrics.payment_calls.labels("create", "ok").inc(3)
    metrics.breaker("payment", "half-open")
    metrics.database.show(PoolStatus(10, 6, 4, 1, 10, 20, {"requests": 4}, {"requests": 1}))
    metrics.job_transitions.labels("none", "creating").inc()
    response = await page(registry)
    assert response.headers["Content-Type"].startswith("text/plain; version=")
    shown = await text(registry)
    assert 'tollgate_payment_calls_total{operation="create",outcome="ok"} 3.0' in shown
    assert 'tollgate_breaker_state{breaker="payment"} 1.0' in shown
    assert 'tollgate_database_pool_used_connections{lane="requests"} 4.0' in shown
    assert 'tollgate_job_transitions_total{from="none",to="creating"} 1.0' in shown


async def test_the_breakers_usual_steps_are_there_before_the_first_of_them() -> None:
    registry = CollectorRegistry()
    Metrics(registry)
    shown = await text(registry)
    for to, cause in (("open", "failures"), ("half-open", "recovery"), ("closed", "probe-ok")):
        labels = f'breaker="payment",cause="{cause}",to="{to}"'
        assert f"tollgate_breaker_transitions_total{{{labels}}} 0.0" in shown


def test_every_collector_is_ours_explained_and_carries_its_unit() -> None:
    registry = CollectorRegistry()
    Metrics(registry)
    families = list(text_string_to_metric_families(generate_latest(registry).decode()))
    families = [family for family in families if not family.name.endswith("_created")]
    assert families
    for family in families:
        assert family.name.startswith("tollgate_")
        assert len(family.documentation) > 30
        if family.type == "histogram":
            assert family.name.endswith(("_seconds", "_size"))


def test_two_applications_in_one_process_do_not_collide() -> None:
    for _ in range(2):
        registry = CollectorRegistry()
        Metrics(registry)
        http_middleware(registry)


async def test_http_is_counted_by_route_and_not_by_address() -> None:
    registry = CollectorRegistry()
    middleware = http_middleware(registry)

    async def answer(_request: web.Request) -> web.Response:
        return web.Response(status=204)

    app = web.Application()
    app.router.add_get("/{flow}/status", answer)
    for number in range(3):
        request = make_mocked_request("GET", f"/flow-{number}/status")
        match = await app.router.resolve(request)
        match.add_app(app)
        request = request.clone(remote="-")
        request._match_info = match
        await middleware(request, answer)
    shown = await text(registry)
    (line,) = re.findall(r"(?m)^aiohttp_responses_total.*$", shown)
    assert 'path_template="/{flow}/status"' in line
    assert 'remote="-"' in line
    assert 'status_code="204"' in line
    assert line.endswith(" 3.0")


WORKER = """
import os, sys
from prometheus_client import CollectorRegistry
from service.database import PoolStatus
from service.metrics import HttpCounts, Metrics
from service.metrics.plain import HandOver
registry = CollectorRegistry()
counts = HttpCounts(registry).of("GET", "http", "/flows")
counts.begun = 3
counts.in_progress = 1
counts.ended(200, 0.0)
metrics = Metrics(registry)
metrics.admission.local_denial()
HandOver.of(registry).now()
metrics.payment_calls.labels("create", "ok").inc(20)
used = int(sys.argv[1])
metrics.database.show(PoolStatus(10, 10 - used, used, 0, 10, 20, {"reads": used}, {}))
metrics.census.backlog(int(sys.argv[1]))
metrics.runner_run_seconds.labels("http").observe(2)
print(os.getpid())
"""

SCRAPER = """
import asyncio
from prometheus_client import CollectorRegistry
from service.metrics import page_handler
print(asyncio.run(page_handler(CollectorRegistry())(None)).body.decode())
"""


def run(code: str, directory: Path, *arguments: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env=os.environ | {"PROMETHEUS_MULTIPROC_DIR": str(directory)},
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout


def test_page_sums_all_workers_and_forgets_the_gauges_of_the_dead(tmp_path: Path) -> None:
    first, second = (int(run(WORKER, tmp_path, used)) for used in ("4", "7"))
    shown = run(SCRAPER, tmp_path)
    assert 'tollgate_payment_calls_total{operation="create",outcome="ok"} 40.0' in shown
    assert 'tollgate_database_pool_used_connections{lane="reads"} 11.0' in shown
    assert "tollgate_settlement_backlog 7.0" in shown
    assert 'tollgate_runner_run_seconds_count{kind="http"} 2.0' in shown
    assert "tollgate_admission_local_denials_total 2.0" in shown
    route = 'method="GET",path_template="/flows",remote="-",scheme="http"'
    assert f"aiohttp_requests_total{{{route}}} 6.0" in shown
    assert f'aiohttp_responses_total{{{route},status_code="200"}} 2.0' in shown
    assert f"aiohttp_requests_in_progress{{{route}}} 2.0" in shown

    for pid, files in ((second, 4), (first, 2)):
        take_over(tmp_path, pid)
        shown = run(SCRAPER, tmp_path)
        assert 'tollgate_payment_calls_total{operation="create",outcome="ok"} 40.0' in shown
        assert 'tollgate_runner_run_seconds_count{kind="http"} 2.0' in shown
        assert len([*tmp_path.glob("counter_*"), *tmp_path.glob("histogram_*")]) == files
        if pid == second:
            assert 'tollgate_database_pool_used_connections{lane="reads"} 4.0' in shown
            assert "tollgate_settlement_backlog 4.0" in shown
            assert f"aiohttp_requests_in_progress{{{route}}} 1.0" in shown
    assert not list(tmp_path.glob("gauge_*"))
    assert "tollgate_settlement_backlog" not in shown
