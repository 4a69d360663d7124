"""The shipped configuration of nginx, asked for everything it promises (config/nginx.conf).

Before replicas of the test's own making, which note what reaches them.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from scripts.fleet.balancer import balancer
from scripts.loopback import LOOPBACK, free_port
from service.settings import ServerSettings
from tests.e2e.fleets import NEEDS_NGINX
from tests.support.servers import scratch_directory
from tests.support.waiting import eventually

pytestmark = NEEDS_NGINX

MIB = 1024 * 1024


@dataclass
class Upstream:
    """A replica's stand-in. ``drop``: close the connection of a request unanswered."""

    port: int = 0
    seen: list[tuple[str, str, dict[str, str], int]] = field(default_factory=list)
    begun: list[str] = field(default_factory=list)
    peers: set[object] = field(default_factory=set)
    drop: bool = False
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    came: asyncio.Event = field(default_factory=asyncio.Event)
    finished: asyncio.Event = field(default_factory=asyncio.Event)

    async def answer(self, request: web.Request) -> web.Response:
        self.begun.append(request.path)
        body = await request.read()
        assert request.transport is not None
        self.peers.add(request.transport.get_extra_info("peername"))
        self.seen.append((request.method, request.path_qs, dict(request.headers), len(body)))
        if self.drop:
            request.transport.abort()
        if request.path == "/slow":
            self.came.set()
            await asyncio.wait_for(self.gone.wait(), 20)
            self.finished.set()
        if request.path == "/refused":
            problem = {"type": "urn:tollgate:problem:draining", "status": 503}
            return web.json_response(
                problem, status=503, content_type="application/problem+json",
                headers={"Retry-After": "7", "RateLimit": '"x";r=1'},
            )  # fmt: skip
        return web.json_response({"upstream": self.port, "id": request.headers["X-Request-Id"]})


@dataclass(frozen=True, slots=True)
class Edge:
    """nginx and what is behind it."""

    port: int
    home: Path
    upstreams: list[Upstream]
    session: aiohttp.ClientSession

    def url(self, path: str) -> str:
        return f"http://{LOOPBACK}:{self.port}{path}"

    def seen(self) -> list[tuple[str, str, dict[str, str], int]]:
        return [seen for upstream in self.upstreams for seen in upstream.seen]

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.home / "access.log").read_text().splitlines()]

    async def raw(self, text: bytes) -> bytes:
        """The answer to these bytes, on a connection of their own."""
        reader, writer = await asyncio.open_connection(LOOPBACK, self.port)
        try:
            writer.write(text)
            async with asyncio.timeout(20):
                head = await reader.readuntil(b"\r\n\r\n")
                length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
                return head + await reader.readexactly(int(length))
        finally:
            writer.close()


@asynccontextmanager
async def edge(count: int = 2, *, away: tuple[int, ...] = ()) -> AsyncIterator[Edge]:
    async with AsyncExitStack() as stack:
        home = stack.enter_context(scratch_directory())
        upstreams = [Upstream() for _ in range(count)]
        for upstream in upstreams:
            upstream.port = await stack.enter_async_context(_served(upstream.answer))
        port = free_port()
        ports = [*away, *(upstream.port for upstream in upstreams)] or [free_port()]
        made = balancer(home, listen=(LOOPBACK, port), replicas=ports)
        await asyncio.to_thread(made.__enter__)
        stack.push_async_callback(asyncio.to_thread, made.__exit__, None, None, None)
        session = await stack.enter_async_context(aiohttp.ClientSession())
        session._retry_connection = False
        yield Edge(port, home, upstreams, session)


@asynccontextmanager
async def _served(answer: Callable[[web.Request], Awaitable[web.Response]]) -> AsyncIterator[int]:
    app = web.Application(client_max_size=8 * MIB)
    app.router.add_route("*", "/{tail:.*}", answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, LOOPBACK, 0)
    await site.start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


def is_problem(answer: aiohttp.ClientResponse, body: Any, status: int, code: str) -> None:
    assert answer.status == body["status"] == status
    assert answer.content_type == "application/problem+json"
    assert body["type"] == f"urn:tollgate:problem:{code}"
    assert body["request_id"] == answer.headers["X-Request-Id"]
    assert body["instance"] == f"urn:request:{body['request_id']}"
    assert answer.headers["Cache-Control"] == "no-store"


async def test_what_clients_claim_of_their_address_ends_here() -> None:
    forged = {
        "X-Forwarded-For": "198.51.100.7, 127.0.0.1",
        "Forwarded": "for=198.51.100.7",
        "X-Forwarded-Proto": "https",
        "X-Request-Id": "my-own.id_1",
    }
    async with edge() as made:
        async with made.session.get(made.url("/a//b?x=%2B"), headers=forged) as answer:
            assert (await answer.json())["id"] == "my-own.id_1"
        async with made.session.get(made.url("/"), headers={"X-Request-Id": 'a"b'}) as answer:
            given = (await answer.json())["id"]
        (_, path, headers, _), *_ = [seen for seen in made.seen() if seen[1] != "/"]
        assert headers["X-Forwarded-For"] == LOOPBACK
        assert headers["X-Forwarded-Proto"] == "http"
        assert "Forwarded" not in headers
        assert headers["Host"] == f"{LOOPBACK}:{made.port}"
        assert path == "/a//b?x=%2B", "as it was sent"
        assert len(given) == 32, "one of nginx's, for none that may be written anywhere"
        eventually(lambda: len(made.lines()) == 2)
        first, second = made.lines()
        assert first["request_id"] == "my-own.id_1"
        assert first["path"] == "/a//b"
        assert (first["status"], second["request_id"]) == ("200", given)


async def test_answers_of_a_replica_pass_unchanged() -> None:
    async with edge() as made, made.session.get(made.url("/refused")) as answer:
        assert answer.status == 503
        assert answer.content_type == "application/problem+json"
        assert answer.headers["Retry-After"] == "7"
        assert answer.headers["RateLimit"] == '"x";r=1'
        assert (await answer.json())["type"] == "urn:tollgate:problem:draining"


async def test_connections_to_replicas_are_kept() -> None:
    async with edge(1) as made:
        for _ in range(8):
            async with made.session.get(made.url("/")) as answer:
                assert answer.status == 200
        assert len(made.upstreams[0].peers) < 8, "fewer connections than requests"


async def test_body_above_the_limit_is_a_problem_and_reaches_nobody() -> None:
    assert ServerSettings().body_limit_bytes == MIB, "what nginx says is our own limit"
    async with edge() as made:
        async with made.session.post(made.url("/"), data=b"x" * MIB) as answer:
            assert answer.status == 200
        head = f"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {MIB + 1}\r\n\r\n"
        told = await made.raw(head.encode())
        assert told.startswith(b"HTTP/1.1 413 ")
        assert b"application/problem+json" in told
        assert json.loads(told.partition(b"\r\n\r\n")[2])["type"].endswith(":body-too-large")
        assert [seen[3] for seen in made.seen()] == [MIB]


@pytest.mark.parametrize(
    ("request_text", "status", "code"),
    [
        (b"GET /x HTTP/1.1\r\n\r\n", 400, "malformed-request"),
        (b"GET /x HTTP/1.1\r\nHost: x\r\nX-Long: " + b"a" * 40_000 + b"\r\n\r\n", 400,
         "malformed-request"),
        (b"GET /" + b"a" * 40_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414, "address-too-long"),
        (b"G@RBAGE\r\n\r\n", 400, "malformed-request"),
        (b"GET /_nginx/away HTTP/1.1\r\nHost: x\r\n\r\n", 404, "not-found"),
        (b"TRACE / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 405, "method-not-allowed"),
        (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501,
         "unknown-transfer-coding"),
        (b"GET / HTTP/2.0\r\nHost: x\r\n\r\n", 505, "unknown-version"),
    ],
)  # fmt: skip
async def test_what_nginx_refuses_itself_is_a_problem(
    request_text: bytes, status: int, code: str
) -> None:
    async with edge(0) as made:
        head, _, body = (await made.raw(request_text)).partition(b"\r\n\r\n")
    assert head.startswith(f"HTTP/1.1 {status} ".encode())
    assert b"application/problem+json" in head
    problem = json.loads(body)
    assert (problem["status"], problem["type"]) == (status, f"urn:tollgate:problem:{code}")


async def test_client_of_http_1_0_may_name_no_host() -> None:
    async with edge(1) as made:
        told = await made.raw(b"GET /x HTTP/1.0\r\n\r\n")
        assert told.startswith(b"HTTP/1.1 200 ")
        assert [seen[2]["Host"] for seen in made.seen()] == ["tollgate"]


async def test_slow_body_keeps_no_replica_busy() -> None:
    async with edge() as made:
        reader, writer = await asyncio.open_connection(LOOPBACK, made.port)
        writer.write(b"POST /drip HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc")
        for _ in range(10):  # all come after the first bytes
            async with made.session.get(made.url("/")) as answer:
                assert answer.status == 200
        assert {path for upstream in made.upstreams for path in upstream.begun} == {"/"}
        writer.write(b"defghij")
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
        writer.close()
        assert ("POST", 10) in {(seen[0], seen[3]) for seen in made.seen()}


async def test_client_that_leaves_does_not_end_what_it_began() -> None:
    async with edge(1) as made:
        (upstream,) = made.upstreams
        _, writer = await asyncio.open_connection(LOOPBACK, made.port)
        writer.write(b"POST /slow HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nab")
        await asyncio.wait_for(upstream.came.wait(), 20)
        writer.close()
        await asyncio.to_thread(eventually, made.lines)
        assert made.lines()[0]["status"] == "499"
        upstream.gone.set()
        await asyncio.wait_for(upstream.finished.wait(), 20)


async def test_post_that_may_have_been_received_is_not_repeated() -> None:
    async with edge(3) as made:
        for upstream in made.upstreams:
            upstream.drop = True
        async with made.session.post(made.url("/start_job"), data=b"x") as answer:
            is_problem(answer, await answer.json(), 502, "no-replica")
            assert int(answer.headers["Retry-After"]) >= 1
        assert len(made.seen()) == 1


async def test_get_that_a_replica_dropped_is_answered_by_another() -> None:
    async with edge(3) as made:
        made.upstreams[0].drop = True
        for _ in range(6):
            async with made.session.get(made.url("/")) as answer:
                assert answer.status == 200
        assert made.upstreams[0].seen


async def test_post_goes_elsewhere_when_a_replica_takes_no_connection() -> None:
    with socket.socket() as closed:
        closed.bind((LOOPBACK, 0))  # and nobody listens
        async with edge(1, away=(closed.getsockname()[1],)) as made:
            for _ in range(6):
                async with made.session.post(made.url("/"), data=b"x") as answer:
                    assert answer.status == 200
            assert len(made.seen()) == 6
            assert any("," in line["replica"] for line in made.lines()), "one was tried in vain"


async def test_no_replica_at_all_is_a_problem_with_a_time_to_come_back() -> None:
    async with edge(0) as made:
        for method in ("GET", "POST"):
            async with made.session.request(method, made.url("/flows")) as answer:
                body = await answer.json()
                is_problem(answer, body, 502, "no-replica")
                assert body["retryable"] is True
                assert int(answer.headers["Retry-After"]) >= 1
