"""HTTP counted by us and by the exporter: the same page."""

from __future__ import annotations

import asyncio
import re
import time
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from service.metrics import HttpCounts, http_middleware

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
}


def page(registry: CollectorRegistry) -> str:
    """Without times: when a series began, and how long requests took."""
    text = generate_latest(registry).decode()
    text = re.sub(r"(?m)^.*_created.*\n", "", text)
    return re.sub(r"(?m)^(aiohttp_request_duration_seconds_(sum|bucket).*) .*$", r"\1", text)


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


def seen_by_us(registry: CollectorRegistry, end: Any) -> None:
    counts = HttpCounts(registry).of("GET", "http", "/flows")
    counts.begun += 1
    if isinstance(end, int):
        counts.ended(end, time.monotonic())
    elif isinstance(end, Exception):
        counts.failed(end, end.status if isinstance(end, web.HTTPException) else 500, 0.0)


@pytest.mark.parametrize(
    "end", [200, 429, web.HTTPFound("/elsewhere"), RuntimeError(), asyncio.CancelledError()]
)
async def test_page_is_the_exporters_own(end: Any) -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    seen_by_us(ours, end)
    await seen_by_exporter(theirs, end)
    assert page(ours) == page(theirs)


async def test_names_and_labels_are_the_ones_dashboards_know() -> None:
    registry = CollectorRegistry()
    seen_by_us(registry, RuntimeError())
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
