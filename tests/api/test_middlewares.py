"""The steps round every handler, on a small application with real connections."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import structlog
from aiohttp import web
from aiohttp.test_utils import TestClient
from prometheus_client import CollectorRegistry

from service import deadline, errors
from service.api import keys
from service.api.doorway import Doorway
from service.api.identity import ClientIdentity
from service.api.middlewares import in_order_internal
from service.api.middlewares.way import Way
from service.logs import with_request_id
from service.metrics import HttpCounts
from service.settings import LoggingSettings, ServerSettings

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Client = TestClient[web.Request, web.Application]
Serve = Callable[..., Awaitable[Client]]
LIMIT_S = 0.3
NEVER_S = 60


@pytest.fixture(params=["fast", "plain"])
def fast(request: pytest.FixtureRequest) -> bool:
    """Both ways make the same promises."""
    return bool(request.param == "fast")


@pytest.fixture
async def serve(aiohttp_client: Any, fast: bool) -> Serve:
    """Puts one handler behind the middlewares, at ``/x``."""

    async def start(handler: Handler, *, sample: float = 1.0, **server: Any) -> Client:
        settings = ServerSettings(**{"request_timeout": LIMIT_S, **server})
        app = web.Application(middlewares=() if fast else in_order_internal())
        if fast:
            way = Way(HttpCounts(CollectorRegistry()), limited=False)
            Doorway.open(app, way)
            handler = way.around(handler, route="/x", policy=None)
        app[keys.SERVER] = settings
        app[keys.LOGGING] = LoggingSettings(access_sample=sample)
        app[keys.IDENTITY] = ClientIdentity(settings.trusted_proxies)
        app.router.add_route("*", "/x", handler)
        app.router.add_post("/post", handler)
        client: Client = await aiohttp_client(app)
        return client

    return start


@pytest.fixture
def logged() -> Any:
    with structlog.testing.capture_logs(processors=[with_request_id]) as entries:
        yield entries


def lines(logged: list[Any], event: str) -> list[Any]:
    return [entry for entry in logged if entry["event"] == event]


async def ok(_request: web.Request) -> web.Response:
    return web.Response(text="ok")


async def endless(_request: web.Request) -> web.Response:
    await asyncio.sleep(NEVER_S)
    return web.Response()


def failing(error: BaseException) -> Handler:
    async def handler(_request: web.Request) -> web.Response:
        raise error

    return handler


async def raw_exchange(client: Client) -> bytes:
    """Everything the server sends on one connection, until it closes it."""
    reader, writer = await asyncio.open_connection(client.host, client.port)
    try:
        writer.write(b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n")
        return await asyncio.wait_for(reader.read(), 10)
    except ConnectionResetError:
        return b""
    finally:
        writer.close()


class TestContext:
    async def test_offered_request_id_is_kept(self, serve: Serve, logged: Any) -> None:
        client = await serve(ok)
        answer = await client.get("/x", headers={"X-Request-Id": "abc-1._Z"})
        assert answer.headers["X-Request-Id"] == "abc-1._Z"
        assert lines(logged, "request")[0]["request_id"] == "abc-1._Z"

    @pytest.mark.parametrize("offered", ["", "a b", "x" * 129, "ä", "a;b"])
    async def test_unusable_request_id_is_replaced(self, serve: Serve, offered: str) -> None:
        client = await serve(ok)
        answer = await client.get("/x", headers={"X-Request-Id": offered})
        given = answer.headers["X-Request-Id"]
        assert given != offered
        assert len(given) == 36

    async def test_every_request_has_one_access_line(self, serve: Serve, logged: Any) -> None:
        client = await serve(ok)
        await client.get("/x")
        (line,) = logged
        assert line["route"] == "/x"
        assert line["status"] == 200
        assert line["client"] == "127.0.0.1"
        assert line["duration_ms"] >= 0

    async def test_access_lines_are_sampled_but_never_failures(
        self, serve: Serve, logged: Any
    ) -> None:
        client = await serve(ok, sample=0)
        await client.get("/x")
        await client.get("/nowhere")
        assert [line["status"] for line in lines(logged, "request")] == [404]

    @pytest.mark.parametrize("fast", [False])
    async def test_inner_layers_see_no_peer_and_only_known_methods(self, serve: Serve) -> None:
        seen: list[tuple[str | None, str]] = []

        async def handler(request: web.Request) -> web.Response:
            seen.append((request.remote, request.method))
            return web.Response()

        client = await serve(handler)
        await client.get("/x")
        await client.request("PROPFIND", "/x")
        assert seen == [("-", "GET"), ("-", "UNKNOWN")]

    async def test_what_inner_layers_note_reaches_the_access_line(
        self, serve: Serve, logged: Any
    ) -> None:
        async def handler(request: web.Request) -> web.Response:
            request[keys.RECORD].flow = "summary"
            return web.Response()

        client = await serve(handler)
        await client.get("/x")
        assert lines(logged, "request")[0]["flow"] == "summary"

    async def test_client_is_named_by_trusted_proxies_only(self, serve: Serve, logged: Any) -> None:
        for proxies in ((), ("127.0.0.0/8",)):
            client = await serve(ok, trusted_proxies=proxies)
            await client.get("/x", headers={"X-Forwarded-For": "198.51.100.9"})
        clients = [line["client"] for line in lines(logged, "request")]
        assert clients == ["127.0.0.1", "198.51.100.9"]

    async def test_path_with_control_characters_is_logged_harmlessly(
        self, serve: Serve, logged: Any
    ) -> None:
        client = await serve(ok)
        answer = await client.get("/%00%0a%ed%a0%80")
        assert answer.status == 404
        assert lines(logged, "request")[0]["path"].isprintable()


class TestErrors:
    async def test_an_unexpected_exception_is_a_500_that_tells_nothing(
        self, serve: Serve, logged: Any
    ) -> None:
        client = await serve(failing(RuntimeError("hunter2")))
        answer = await client.get("/x")
        assert answer.status == 500
        assert answer.content_type == "application/problem+json"
        assert "hunter2" not in await answer.text()
        (crash,) = lines(logged, "request_crashed")
        assert crash["exc_info"]
        assert crash["request_id"] == answer.headers["X-Request-Id"]

    async def test_an_expected_failure_is_logged_once_without_stack(
        self, serve: Serve, logged: Any
    ) -> None:
        client = await serve(failing(errors.UnknownFlow()))
        answer = await client.get("/x")
        assert answer.status == 404
        body = await answer.json(content_type="application/problem+json")
        assert body["type"] == "urn:tollgate:problem:unknown-flow"
        assert body["request_id"] == answer.headers["X-Request-Id"]
        (line,) = logged
        assert line["problem"] == "unknown-flow"
        assert "exc_info" not in line

    async def test_unknown_path_and_wrong_method_are_problems(self, serve: Serve) -> None:
        client = await serve(ok)
        unknown, wrong = await client.get("/nowhere"), await client.get("/post")
        assert unknown.status == 404
        assert unknown.content_type == "application/problem+json"
        assert wrong.status == 405
        assert wrong.headers["Allow"] == "POST"
        assert wrong.content_type == "application/problem+json"

    async def test_head_of_a_failure_has_no_body(self, serve: Serve) -> None:
        client = await serve(failing(errors.UnknownFlow()))
        answer = await client.head("/x")
        assert answer.status == 404
        assert await answer.read() == b""

    async def test_connection_serves_the_next_request_after_a_problem(self, serve: Serve) -> None:
        client = await serve(failing(errors.UnknownFlow()))
        for _ in range(3):
            assert (await client.get("/x")).status == 404


class TestDeadline:
    async def test_a_request_over_its_time_is_a_504(self, serve: Serve, logged: Any) -> None:
        client = await serve(endless)
        answer = await client.get("/x")
        assert answer.status == 504
        body = await answer.json(content_type="application/problem+json")
        assert body["type"] == "urn:tollgate:problem:deadline-exceeded"
        assert body["retryable"] is True
        assert len(logged) == 1

    async def test_inner_layers_know_the_remaining_time(self, serve: Serve) -> None:
        async def handler(_request: web.Request) -> web.Response:
            return web.Response(text=str(deadline.remaining_s()))

        client = await serve(handler)
        left_s = float(await (await client.get("/x")).text())
        assert 0 < left_s <= LIMIT_S

    async def test_client_may_shorten_its_time_but_not_lengthen_it(self, serve: Serve) -> None:
        async def handler(_request: web.Request) -> web.Response:
            return web.Response(text=str(deadline.remaining_s()))

        client = await serve(handler)
        for asked_ms, most_s in (("50", 0.05), ("999999999", LIMIT_S), ("x", LIMIT_S)):
            answer = await client.get("/x", headers={deadline.HEADER: asked_ms})
            assert 0 < float(await answer.text()) <= most_s

    async def test_request_over_the_time_its_client_gave_it_is_a_504(self, serve: Serve) -> None:
        async def handler(_request: web.Request) -> web.Response:
            await asyncio.sleep(LIMIT_S * 0.8)
            return web.Response()

        client = await serve(handler)
        assert (await client.get("/x")).status == 200
        assert (await client.get("/x", headers={deadline.HEADER: "20"})).status == 504

    async def test_a_handler_that_swallows_its_cancellation_is_still_a_504(
        self, serve: Serve, logged: Any
    ) -> None:
        async def handler(_request: web.Request) -> web.Response:
            try:
                await asyncio.sleep(NEVER_S)
            except asyncio.CancelledError:
                return web.Response(text="late")
            return web.Response()

        client = await serve(handler)
        assert (await client.get("/x")).status == 504
        assert lines(logged, "deadline_swallowed")

    async def test_a_handler_that_fails_because_of_its_cancellation_is_still_a_504(
        self, serve: Serve
    ) -> None:
        async def handler(_request: web.Request) -> web.Response:
            try:
                await asyncio.sleep(NEVER_S)
            except asyncio.CancelledError as error:
                raise errors.StoreUnavailable from error
            return web.Response()

        client = await serve(handler)
        body = await (await client.get("/x")).json(content_type=None)
        assert body["type"] == "urn:tollgate:problem:deadline-exceeded"

    async def test_a_cancellation_nobody_asked_for_is_a_failed_dependency(
        self, serve: Serve
    ) -> None:
        client = await serve(failing(asyncio.CancelledError()))
        answer = await client.get("/x")
        assert answer.status == 504
        body = await answer.json(content_type="application/problem+json")
        assert body["type"] == "urn:tollgate:problem:query-timeout"

    async def test_a_timeout_that_is_not_ours_is_no_504(self, serve: Serve, logged: Any) -> None:
        client = await serve(failing(TimeoutError()))
        assert (await client.get("/x")).status == 500
        assert lines(logged, "request_crashed")

    @pytest.mark.parametrize("end", [None, RuntimeError("broken half-way")])
    async def test_an_answer_that_had_begun_is_cut_and_not_answered_twice(
        self, serve: Serve, logged: Any, end: Exception | None
    ) -> None:
        async def handler(request: web.Request) -> web.StreamResponse:
            response = web.StreamResponse()
            await response.prepare(request)
            await response.write(b"beginning")
            if end:
                raise end
            await asyncio.sleep(NEVER_S)
            return response

        client = await serve(handler)
        received = await raw_exchange(client)
        assert received.count(b"HTTP/1.1") <= 1
        assert b"problem" not in received
        assert lines(logged, "request")[0]["status"] == (500 if end else 504)

    async def test_a_client_that_goes_away_is_no_failure_of_ours(
        self, serve: Serve, logged: Any
    ) -> None:
        entered, left = asyncio.Event(), asyncio.Event()

        async def handler(_request: web.Request) -> web.Response:
            entered.set()
            try:
                await asyncio.sleep(NEVER_S)
            finally:
                left.set()
            return web.Response()

        client = await serve(handler, request_timeout=NEVER_S)
        _, writer = await asyncio.open_connection(client.host, client.port)
        writer.write(b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n")
        await asyncio.wait_for(entered.wait(), 10)
        writer.close()
        await asyncio.wait_for(left.wait(), 10)
        await asyncio.sleep(0)
        assert [line["status"] for line in lines(logged, "request")] == [499]
        assert not lines(logged, "request_crashed")
