"""Refusals at the door: what the ordinary way sends, counts and tells, and only where it would."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import structlog
from aiohttp import web
from aiohttp.web_protocol import MAX_MSG_QUEUE_SIZE

from service.admission import denials
from service.api import keys
from service.api.doorman import Doorman
from service.api.rendered import Rendered
from tests.support.gate import Gate, OpenGate

#: One request is admitted, then nobody for an hour.
LIMITS = {name: {"rate": "1/hour", "burst": 1} for name in ("health", "default", "status")}
GET = b"GET /health HTTP/1.1\r\nHost: x\r\nX-Request-Id: r-1\r\n\r\n"
#: Seconds may pass between one answer and another.
TIMES = re.compile(
    rb"(?<=Date: )[^\r]*|(?<=;t=)\d+|(?<=Retry-After: )\d+|(?<=retry in )\d+"
    rb"|(?<=\"retry-after-ms\": )\d+"
)


class Line:
    """One connection, read answer by answer."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def answer(self, *, body: bool = True) -> bytes:
        """The next one, without what clocks put into it."""
        async with asyncio.timeout(10):
            head = await self.reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"Content-Length: (\d+)", head)
            rest = await self.reader.readexactly(int(length[1]) if length and body else 0)
        return TIMES.sub(lambda match: b"#" * len(match[0]), head + rest)

    async def ask(self, sent: bytes = GET, **options: bool) -> bytes:
        self.writer.write(sent)
        return await self.answer(**options)


@asynccontextmanager
async def line_to(gate: Gate) -> AsyncIterator[Line]:
    line = Line(*await asyncio.open_connection(gate.client.host, gate.client.port))
    try:
        yield line
    finally:
        line.writer.close()


def protocols(gate: Gate) -> list[Any]:
    runner = gate.client.server.runner
    assert runner is not None
    assert isinstance(runner.server, web.Server)
    return runner.server.connections


def doormen(gate: Gate) -> int:
    return sum(isinstance(each._parser, Doorman) for each in protocols(gate))


async def refused_at_the_door(line: Line, gate: Gate, sent: bytes = GET) -> bytes:
    """Ask until the doorman is there; what the ordinary way said last."""
    async with asyncio.timeout(10):
        while True:
            answer = await line.ask(sent)
            if doormen(gate):
                return answer


@pytest.fixture(autouse=True)
def long_belief(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test is so slow that Redis is asked again meanwhile."""
    monkeypatch.setattr(denials, "BELIEVED_US", 60_000_000)


@pytest.fixture
def requests_made(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The path of every request aiohttp has made of what came in."""
    made: list[str] = []
    ordinary = web.Application._make_request

    def counted(self: web.Application, *what: Any, **more: Any) -> web.Request:
        made.append(what[0].path)
        return ordinary(self, *what, **more)

    monkeypatch.setattr(web.Application, "_make_request", counted)
    return made


async def test_same_bytes_as_the_ordinary_way_and_no_request(
    open_gate: OpenGate, requests_made: list[str]
) -> None:
    gate = await open_gate(limits=LIMITS)
    async with line_to(gate) as line:
        ordinary = await refused_at_the_door(line, gate)
        made = len(requests_made)
        for _ in range(5):
            assert await line.ask() == ordinary
        assert ordinary.startswith(b"HTTP/1.1 429 ")
        assert len(requests_made) == made


@pytest.mark.parametrize(
    "start", ["GET /status?job_id=1", "GET /nowhere", "POST /health", "PROPFIND /nowhere"]
)
async def test_any_address_and_method_even_one_that_is_not_there(
    open_gate: OpenGate, requests_made: list[str], start: str
) -> None:
    gate = await open_gate(limits=LIMITS)
    sent = f"{start} HTTP/1.1\r\nHost: x\r\nX-Request-Id: r-1\r\n\r\n".encode()
    async with line_to(gate) as line:
        ordinary = await refused_at_the_door(line, gate, sent)
        made = len(requests_made)
        assert await line.ask(sent.replace(b"job_id=1", b"job_id=2")) == ordinary
        assert len(requests_made) == made


async def test_each_has_an_id_of_its_own_or_the_one_it_came_with(open_gate: OpenGate) -> None:
    gate = await open_gate(limits=LIMITS)
    async with line_to(gate) as line:
        await refused_at_the_door(line, gate)
        unnamed = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"
        found = [re.findall(rb"[0-9a-f-]{36}", await line.ask(unnamed)) for _ in range(2)]
        assert doormen(gate) == 1
        assert len(found[0]) == 3
        assert len(set(found[0])) == 1
        assert set(found[0]).isdisjoint(found[1])
        assert b"X-Request-Id: r-1\r\n" in await line.ask()


async def test_all_three_ways_count_the_same(open_gate: OpenGate) -> None:
    pages = []
    for fast, expected in ((True, 1), (False, 0)):
        gate = await open_gate(limits=LIMITS, server={"fast_answers": fast})
        async with line_to(gate) as line:
            for _ in range(6):
                await line.ask()
            assert doormen(gate) == expected
        text = await (await gate.get("/metrics")).text()
        kept = re.findall(r"(?m)^(?:aiohttp_|tollgate_admission_dec)(?!.*_created).*$", text)
        pages.append([entry for entry in kept if "duration_seconds_" not in entry])
    assert pages[0] == pages[1]
    assert any('status_code="429"' in entry and entry.endswith(" 5.0") for entry in pages[0])


async def test_a_refusal_has_its_line_in_the_log(open_gate: OpenGate) -> None:
    gate = await open_gate(limits=LIMITS, logging={"access_sample": 1.0})
    with structlog.testing.capture_logs() as entries:
        async with line_to(gate) as line:
            await refused_at_the_door(line, gate)
            entries.clear()
            await line.ask(GET.replace(b"r-1", b"r-2"))
            await line.ask(GET.replace(b"r-1", b"r-3").replace(b"/health", b"/health?x=1"))
    assert [entry.pop("request_id") for entry in entries] == ["r-2", "r-3"]
    for entry in entries:
        assert entry.pop("duration_ms") >= 0
    assert entries[0] == entries[1]
    assert entries[0]["route"] == entries[0]["path"] == "/health"
    assert (entries[0]["status"], entries[0]["problem"]) == (429, "quota-exceeded")
    assert entries[0]["client"] == "127.0.0.1"


#: What is not his to answer, and what the ordinary way does with it.
UNUSUAL: dict[str, tuple[bytes, bytes]] = {
    "another address": (GET.replace(b"/health", b"/livez"), b"200"),
    "another method": (GET.replace(b"GET", b"PUT"), b"405"),
    "HEAD": (GET.replace(b"GET", b"HEAD"), b"429"),
    "a body": (GET[:-2] + b"Content-Length: 2\r\n\r\nxy", b"429"),
    "a body in parts": (
        GET[:-2] + b"Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
        b"429",
    ),
    "the last one": (GET[:-2] + b"Connection: close\r\n\r\n", b"429"),
    "HTTP/1.0": (GET[:-2].replace(b"1.1", b"1.0") + b"Connection: keep-alive\r\n\r\n", b"429"),
    "an upgrade": (GET[:-2] + b"Upgrade: websocket\r\nConnection: upgrade\r\n\r\n", b"429"),
    "an expectation": (GET[:-2] + b"Expect: 100-continue\r\n\r\n", b"100"),
    "garbage": (b"GET\r\n\r\n", b"400"),
}


@pytest.mark.parametrize("what", UNUSUAL)
async def test_the_unusual_is_handed_on(
    open_gate: OpenGate, requests_made: list[str], what: str
) -> None:
    sent, status = UNUSUAL[what]
    limits = {**LIMITS, "default": {"rate": "100/second"}}
    gate = await open_gate(limits=limits)
    async with line_to(gate) as line:
        await refused_at_the_door(line, gate)
        made = len(requests_made)
        answer = await line.ask(sent, body=what != "HEAD")
        assert answer.split()[1] == status
        assert len(requests_made) == made + 1
        if status == b"100":
            assert (await line.answer()).split()[1] == b"429"


async def test_answers_without_a_body_are_never_his(open_gate: OpenGate) -> None:
    gate = await open_gate(limits=LIMITS)
    head = GET.replace(b"GET", b"HEAD")
    async with line_to(gate) as line:
        for _ in range(4):
            assert (await line.ask(head, body=False)).endswith(b"\r\n\r\n")
        assert (await line.ask()).startswith(b"HTTP/1.1 429 ")


async def test_one_sent_in_pieces_is_refused_once(open_gate: OpenGate) -> None:
    gate = await open_gate(limits=LIMITS)
    async with line_to(gate) as line:
        ordinary = await refused_at_the_door(line, gate)
        for piece in (GET[:7], GET[7:40], GET[40:-1]):
            line.writer.write(piece)
            await asyncio.sleep(0.02)
        assert await line.ask(GET[-1:]) == ordinary
        assert doormen(gate) == 1


async def test_answers_keep_the_order_of_their_requests(open_gate: OpenGate) -> None:
    gate = await open_gate(limits=LIMITS)
    many = b"".join(GET.replace(b"r-1", b"r-%d" % number) for number in range(20))
    async with line_to(gate) as line:
        await refused_at_the_door(line, gate)
        line.writer.write(many)
        line.writer.write(many[: len(GET) * 3 + 5])
        await asyncio.sleep(0)
        line.writer.write(many[len(GET) * 3 + 5 :])
        found = [re.findall(rb"X-Request-Id: r-(\d+)", await line.answer())[0] for _ in range(40)]
    assert [int(number) for number in found] == [*range(20), *range(20)]


async def test_after_many_refusals_the_parser_still_takes_several_at_once(
    open_gate: OpenGate,
) -> None:
    gate = await open_gate(limits=LIMITS)
    async with line_to(gate) as line:
        await refused_at_the_door(line, gate)
        for _ in range(MAX_MSG_QUEUE_SIZE):
            await line.ask()
        line.writer.write(GET * 3)
        for _ in range(3):
            assert (await line.answer()).startswith(b"HTTP/1.1 429 ")


async def test_who_has_room_again_is_admitted_and_meets_him_no_more(open_gate: OpenGate) -> None:
    gate = await open_gate(limits={"health": {"rate": "5/second", "burst": 1}})
    async with line_to(gate) as line:
        await refused_at_the_door(line, gate)
        await asyncio.sleep(0.25)
        assert (await line.ask()).startswith(b"HTTP/1.1 200 ")
        assert doormen(gate) == 0


async def test_who_is_shut_out_meanwhile_is_told_so(
    open_gate: OpenGate, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = await open_gate(limits=LIMITS)
    async with line_to(gate) as line:
        await refused_at_the_door(line, gate)
        shut = await open_gate(
            limits={**LIMITS, "deny": {"networks": ["127.0.0.1/32"]}}, flows=None
        )
        monkeypatch.setattr(gate.app[keys.RULES], "_current", shut.app[keys.RULES].current)
        assert (await line.ask()).startswith(b"HTTP/1.1 403 ")


async def test_a_connection_is_kept_as_long_after_his_answer_as_after_any(
    aiohttp_server: Any,
) -> None:
    async with refusing(aiohttp_server, at_the_door, keepalive_timeout=0.5) as (line, called):
        await line.ask()
        for _ in range(8):
            await asyncio.sleep(0.1)
            assert (await line.ask()).endswith(b"!")
        assert called == [True]
        assert await asyncio.wait_for(line.reader.read(), 10) == b""


async def test_who_does_not_read_is_left_to_the_ordinary_way_which_waits(
    open_gate: OpenGate, requests_made: list[str]
) -> None:
    gate = await open_gate(limits=LIMITS)
    async with line_to(gate) as line:
        await refused_at_the_door(line, gate)
        made = len(requests_made)
        (protocol,) = (each for each in protocols(gate) if isinstance(each._parser, Doorman))
        protocol.pause_writing()
        for _ in range(3):
            line.writer.write(GET)
            await asyncio.sleep(0.05)
        assert len(requests_made) == made + 1
        protocol.resume_writing()
        for _ in range(3):
            assert (await line.answer()).startswith(b"HTTP/1.1 429 ")


@pytest.mark.parametrize("origins", [["*"], ["https://shop.example"]])
@pytest.mark.parametrize("origin", [b"", b"Origin: https://shop.example\r\n"])
async def test_pages_of_other_origins_are_told_they_may_read_it(
    open_gate: OpenGate, requests_made: list[str], origins: list[str], origin: bytes
) -> None:
    gate = await open_gate(limits=LIMITS, server={"cors_origins": origins})
    sent = GET[:-2] + origin + b"\r\n"
    async with line_to(gate) as line:
        ordinary = await refused_at_the_door(line, gate, sent)
        made = len(requests_made)
        assert await line.ask(sent) == ordinary
        assert (b"Access-Control-Allow-Origin" in ordinary) == bool(origin)
        assert len(requests_made) == made + bool(origin)


async def test_who_wants_to_see_every_answer_sees_every_refusal(aiohttp_server: Any) -> None:
    seen: list[int] = []

    async def look(_request: web.Request, answer: web.StreamResponse) -> None:
        seen.append(answer.status)

    def never(*_what: object) -> bytes | None:
        raise AssertionError("asked, though somebody wants to see the answer")

    async with refusing(aiohttp_server, never, look) as (line, called):
        for _ in range(3):
            await line.ask()
    assert seen == [429, 429, 429]
    assert called == [False, False, False]


async def test_a_fault_of_his_is_left_to_the_ordinary_way(aiohttp_server: Any) -> None:
    def broken(*_what: object) -> bytes | None:
        raise RuntimeError("broken")

    async with refusing(aiohttp_server, broken) as (line, called):
        for _ in range(3):
            assert (await line.ask()).startswith(b"HTTP/1.1 429 ")
    assert called == [True, True, True]


async def test_he_waits_for_the_answer_before_his(aiohttp_server: Any) -> None:
    going_on = asyncio.Event()

    async def hold(_request: web.Request, _answer: web.StreamResponse) -> None:
        await going_on.wait()

    hold.lines_for = lambda _headers: ""  # type: ignore[attr-defined]
    async with refusing(aiohttp_server, at_the_door, hold) as (line, called):
        line.writer.write(GET)
        await asyncio.sleep(0.05)
        line.writer.write(GET)
        await asyncio.sleep(0.05)
        going_on.set()
        assert [(await line.answer())[-2:] for _ in range(2)] == [b"no", b"no"]
        assert (await line.ask()).endswith(b"!")
    assert called == [True, True]


async def test_he_is_called_neither_before_others_nor_to_the_last(aiohttp_server: Any) -> None:
    async with refusing(aiohttp_server, at_the_door) as (line, called):
        line.writer.write(GET * 2 + UNUSUAL["the last one"][0])
        assert [(await line.answer())[-2:] for _ in range(3)] == [b"no", b"no", b"no"]
    assert called == [False, False, False]


def at_the_door(*_what: object) -> bytes | None:
    return b"HTTP/1.1 429 Too Many Requests\r\nContent-Length: 1\r\n\r\n!"


@asynccontextmanager
async def refusing(
    aiohttp_server: Any, refuse: Callable[..., bytes | None], *signals: Any, **options: Any
) -> AsyncIterator[tuple[Line, list[bool]]]:
    """A server that refuses everything and calls a doorman each time; whether he came."""
    called: list[bool] = []

    async def handler(request: web.Request) -> web.Response:
        Doorman.call(request, refuse)
        called.append(isinstance(request.protocol._parser, Doorman))
        return Rendered(429, "HTTP/1.1 429 Too Many Requests\r\n", b"no")

    app = web.Application()
    app.router.add_get("/health", handler)
    app.on_response_prepare.extend(signals)
    server = await aiohttp_server(app, **options)
    line = Line(*await asyncio.open_connection(server.host, server.port))
    try:
        yield line, called
    finally:
        line.writer.close()
