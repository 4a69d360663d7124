"""HTTP counted by us and by the exporter, completed: the same page."""

from __future__ import annotations

import asyncio
import re
import time
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from service.metrics import HttpCounts, http, http_middleware

FAMILIES = {
    "aiohttp_requests": ("method", "path_template", "remote", "scheme"),
    "aiohttp_responses": ("method", "path_template", "remote", "scheme", "status_code"),
    "aiohttp_request_duration_seconds": (
        "method",
        "path_template",
        "remote",
        "scheme",
        "status_code",
    ),
    "aiohttp_requests_in_progress": ("method", "path_template", "remote", "scheme"),
    "aiohttp_exceptions": ("exception_type", "method", "path_template", "remote", "scheme"),
    "tollgate_request_seconds": ("answer", "route"),
    "tollgate_requests_abandoned": ("route",),
}


def page(registry: CollectorRegistry) -> str:
    """Without times: when a series began, and how long requests took."""
    text = generate_latest(registry).decode()
    text = re.sub(r"(?m)^.*_created.*\n", "", text)
    return re.sub(r"(?m)^((aiohttp|tollgate)_request\w*_seconds_(sum|bucket).*) .*$", r"\1", text)


async def seen_by_exporter(registry: CollectorRegistry, end: Any) -> None:
    middleware = http_middleware(registry)

    async def handler(_request: web.Request) -> web.Response:
        if isinstance(end, BaseException):
            raise end
        return web.Response(status=end)

    app = web.Application()
    app.router.add_get("/flows", handler)
    request = make_mocked_request("GET", "/flows").clone(remote="-")
    request._match_info = await app.router.resolve(request)

    try:
        await middleware(request, handler)
    except BaseException as error:
        if error is not end:
            raise


def seen_by_us(registry: CollectorRegistry, *ends: Any) -> None:
    counts = HttpCounts(registry).of("GET", "http", "/flows")
    for end in ends:
        counts.begun += 1
        if isinstance(end, int):
            counts.ended(end, time.monotonic())
        elif isinstance(end, Exception):
            counts.failed(end, end.status if isinstance(end, web.HTTPException) else 500, 0.0)
        else:
            counts.cancelled(time.monotonic())


@pytest.mark.parametrize(
    "end", [200, 429, web.HTTPFound("/elsewhere"), RuntimeError(), asyncio.CancelledError()]
)
async def test_both_ways_show_the_same_page(end: Any) -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    seen_by_us(ours, end)
    await seen_by_exporter(theirs, end)
    assert page(ours) == page(theirs)


async def test_names_and_labels_are_the_ones_dashboards_know() -> None:
    registry = CollectorRegistry()
    seen_by_us(registry, RuntimeError(), asyncio.CancelledError())
    found = {
        family.name: tuple(sorted(set(family.samples[0].labels) - {"le"}))
        for family in text_string_to_metric_families(generate_latest(registry).decode())
        if not family.name.endswith("_created")
    }
    assert found == FAMILIES


def test_requests_in_hand_are_shown_and_fall_again() -> None:
    registry = CollectorRegistry()
    counts = HttpCounts(registry).of("GET", "http", "/flows")
    for number in (2, 0):
        counts.in_progress = number
        assert re.search(rf"(?m)^aiohttp_requests_in_progress{{.*}} {number}\.0$", page(registry))


async def test_what_was_begun_has_ended_whatever_became_of_it() -> None:
    registry = CollectorRegistry()
    seen_by_us(registry, 200, 504, asyncio.CancelledError(), RuntimeError())
    families = {family.name: family for family in registry.collect()}
    begun = sum(s.value for s in families["aiohttp_requests"].samples if "_total" in s.name)
    ended = {s.labels["status_code"]: s.value for s in families["aiohttp_responses"].samples
             if s.name.endswith("_total")}  # fmt: skip
    assert ended == {"200": 1, "504": 1, "499": 1, "500": 1}
    assert begun == sum(ended.values())
    answers = {s.labels["answer"]: s.value for s in families["tollgate_request_seconds"].samples
               if s.name.endswith("_count")}  # fmt: skip
    assert answers == {"2xx": 1, "5xx": 2, "4xx": 1}


def test_quick_answers_are_told_apart_and_the_exporters_buckets_stay_as_they_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    registry = CollectorRegistry()
    counts = HttpCounts(registry).of("GET", "http", "/flows")
    monkeypatch.setattr(http.time, "monotonic", lambda: 100.0)
    for took_s in (0.0001, 0.0008, 0.002, 20.0):
        counts.ended(200, 100.0 - took_s)

    def buckets(name: str) -> dict[str, float]:
        (family,) = [f for f in registry.collect() if f.name == name]
        return {s.labels["le"]: s.value for s in family.samples if s.name.endswith("_bucket")}

    fine = buckets("tollgate_request_seconds")
    assert [fine[le] for le in ("0.0005", "0.001", "0.0025", "10.0", "30.0")] == [1, 2, 3, 3, 4]
    coarse = buckets("aiohttp_request_duration_seconds")
    assert [coarse[le] for le in ("0.005", "10.0", "+Inf")] == [3, 3, 4]
    assert len(coarse) == len(Histogram.DEFAULT_BUCKETS)
