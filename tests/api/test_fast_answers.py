"""The fast way and the plain way of a whole application: the same bytes, but for ids and dates."""

from __future__ import annotations

import asyncio
import re

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from service.api import routes
from tests.support.gate import Gate, OpenGate

#: Two of these are admitted, the rest denied.
PATHS = ("/health", "/health", "/health", "/nowhere", "/flows", "/flows/text-summary", "/livez")
LIMITS = {"health": {"rate": "1/hour", "burst": 2}, "flows": {"rate": "1/hour", "burst": 1}}
#: Seconds may pass between one run and the next.
TIMES = re.compile(
    rb"(?<=Date: )[^\r]*|(?<=Age: )\d+|(?<=;t=)\d+|(?<=Retry-After: )\d+|(?<=retry in )\d+"
    rb"|(?<=\"retry-after-ms\": )\d+"
)


async def received(gate: Gate, method: str, version: str) -> list[bytes]:
    """Every answer whole, without what clocks put into it."""
    answers = []
    for number, path in enumerate(PATHS):
        reader, writer = await asyncio.open_connection(gate.client.host, gate.client.port)
        writer.write(
            f"{method} {path} HTTP/{version}\r\nHost: x\r\nX-Request-Id: r-{number}\r\n"
            "Connection: close\r\n\r\n".encode()
        )
        raw = await asyncio.wait_for(reader.read(), 10)
        writer.close()
        assert raw.count(b"HTTP/1.") == 1
        answers.append(TIMES.sub(lambda match: b"#" * len(match[0]), raw))
    return answers


@pytest.mark.parametrize(("method", "version"), [("GET", "1.1"), ("HEAD", "1.1"), ("GET", "1.0")])
async def test_both_ways_send_the_same(open_gate: OpenGate, method: str, version: str) -> None:
    fast = await open_gate(limits=LIMITS, server={"fast_answers": True})
    by_fast = await received(fast, method, version)
    plain = await open_gate(limits=LIMITS, server={"fast_answers": False})
    by_plain = await received(plain, method, version)
    assert by_fast == by_plain
    assert [int(raw.split()[1]) for raw in by_fast] == [200, 200, 429, 404, 200, 429, 200]


async def test_both_ways_count_the_same(open_gate: OpenGate) -> None:
    pages = []
    for fast in (True, False):
        gate = await open_gate(limits=LIMITS, server={"fast_answers": fast})
        await received(gate, "GET", "1.1")
        text = await (await gate.get("/metrics")).text()
        kept = re.findall(r"(?m)^(?:aiohttp_|tollgate_admission_dec)(?!.*_created).*$", text)
        pages.append([line for line in kept if "duration_seconds_" not in line])
    assert pages[0] == pages[1]
    assert any('status_code="429"' in line for line in pages[0])


async def test_the_doorway_finds_what_aiohttps_own_router_finds(open_gate: OpenGate) -> None:
    gate = await open_gate(server={"fast_answers": True})
    routes.setup(plain := web.Application())
    ours, theirs = gate.app.router, plain.router
    paths = [row.path.replace("{flow}", "a").replace("{asset}", "b") for row in routes.TABLE]
    tried = 0
    odd = ("/flows/b", "/b/%64emo", "/a%2Fb/demo", "/", "//", "/health/", "/health?x=1")
    for path in (*paths, *odd, "/%68ealth", "/none", "*", ""):
        for method in ("GET", "HEAD", "POST", "OPTIONS", "PROPFIND"):
            request = make_mocked_request(method, path)
            expected = await theirs.resolve(request)
            for found in [await ours.resolve(request) for _ in range(3)]:
                assert found.route.name == expected.route.name
                assert dict(found) == dict(expected)
                assert repr(found.http_exception) == repr(expected.http_exception)
            tried += expected.http_exception is None
    assert tried > len(paths)


@pytest.mark.parametrize(
    "start", ["OPTIONS *", "CONNECT example.org:443", "GET http://x/nowhere", "GET /%00"]
)
async def test_whatever_is_asked_for_is_counted_limited_and_named(
    open_gate: OpenGate, start: str
) -> None:
    gate = await open_gate(limits={"default": {"rate": "1/hour"}})
    statuses = []
    for _ in range(2):
        reader, writer = await asyncio.open_connection(gate.client.host, gate.client.port)
        writer.write(f"{start} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
        writer.close()
        assert b"X-Request-Id: " in head
        statuses.append(int(head.split()[1]))
    assert statuses == [404, 429]
