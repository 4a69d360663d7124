"""Rendered answers, byte for byte what ``web.Response`` sends for the same fields and body."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web

from service.api.rendered import Rendered, start_of

BODY = b'{"status":"ok"}'
FIELDS = [("Cache-Control", "no-store"), ("Content-Type", "application/json")]
TOLD = [("X-Request-Id", "r-1"), ("RateLimit", '"flows";r=1;t=2')]

#: What a request may look like.
REQUESTS = {
    "get": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "head": b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n",
    "close": b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    "old": b"GET / HTTP/1.0\r\n\r\n",
    "old, kept": b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    "compressible": b"GET / HTTP/1.1\r\nHost: x\r\nAccept-Encoding: gzip\r\n\r\n",
    "with a body": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody",
    "pipelined": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 3,
}

#: After which the server closes by itself.
CLOSING = (REQUESTS["close"], REQUESTS["old"])

Change = Callable[[web.Response], None]
Send = Callable[..., Awaitable[bytes]]


def nothing(_answer: web.Response) -> None:
    """As it is."""


#: What a handler or a middleware may do to an answer before it is sent.
CHANGES: dict[str, Change] = {
    "nothing": nothing,
    "field": lambda answer: answer.headers.add("X-Other", "1"),
    "cookie": lambda answer: answer.set_cookie("a", "b"),
    "close": lambda answer: answer.force_close(),
    "status": lambda answer: answer.set_status(503),
    "kept item": lambda answer: answer.__setitem__(web.ResponseKey("key", str), "value"),
}


def rendered(status: int = 200, reason: str = "OK", body: bytes = BODY) -> web.Response:
    answer = Rendered(status, start_of(status, reason, FIELDS), body)
    answer.tell("".join(f"{name}: {value}\r\n" for name, value in TOLD))
    return answer


def plain(status: int = 200, reason: str = "OK", body: bytes = BODY) -> web.Response:
    return web.Response(status=status, reason=reason, body=body, headers=[*FIELDS, *TOLD])


@pytest.fixture
def send(aiohttp_server: Any) -> Send:
    """What a server that makes such answers sends for these bytes, until it is silent."""

    async def exchange(
        make: Callable[[], web.Response],
        sent: bytes,
        change: Change = nothing,
        signal: Any = None,
    ) -> bytes:
        async def handler(_request: web.Request) -> web.Response:
            answer = make()
            change(answer)
            return answer

        app = web.Application()
        app.router.add_route("*", "/", handler)
        if signal:
            app.on_response_prepare.append(signal)
        server = await aiohttp_server(app)
        reader, writer = await asyncio.open_connection(server.host, server.port)
        last = sent if sent in CLOSING else sent + REQUESTS["close"]
        writer.write(last)
        received = await asyncio.wait_for(reader.read(), 10)
        writer.close()
        return re.sub(rb"Date: [^\r]*", b"Date: -", received)

    return exchange


@pytest.mark.parametrize("name", REQUESTS)
async def test_same_bytes_for_every_kind_of_request(send: Send, name: str) -> None:
    received = await send(rendered, REQUESTS[name])
    assert received == await send(plain, REQUESTS[name])
    assert received.count(b"Content-Length: 15\r\n") == received.count(b"HTTP/1.")


@pytest.mark.parametrize("name", CHANGES)
async def test_same_bytes_whatever_is_done_to_the_answer(send: Send, name: str) -> None:
    sent = REQUESTS["get"]
    assert await send(rendered, sent, CHANGES[name]) == await send(plain, sent, CHANGES[name])


@pytest.mark.parametrize("name", REQUESTS)
async def test_same_bytes_without_a_body(send: Send, name: str) -> None:
    sent = REQUESTS[name]
    received = await send(lambda: rendered(304, "Not Modified", b""), sent)
    assert received == await send(lambda: plain(304, "Not Modified", b""), sent)
    assert b"Content-Length" not in received


@pytest.mark.parametrize("name", [*CHANGES, "signal"])
async def test_same_bytes_without_a_body_whatever_is_done_to_it(send: Send, name: str) -> None:
    async def mark(_request: web.Request, answer: web.StreamResponse) -> None:
        answer.headers["X-Seen"] = "1"

    how: dict[str, Any] = {"signal": mark} if name == "signal" else {"change": CHANGES[name]}
    received = await send(lambda: rendered(304, "Not Modified", b""), REQUESTS["get"], **how)
    expected = await send(lambda: plain(304, "Not Modified", b""), REQUESTS["get"], **how)
    assert sorted(received.split(b"\r\n")) == sorted(expected.split(b"\r\n"))


async def test_same_bytes_with_compression(send: Send) -> None:
    def compress(answer: web.Response) -> None:
        answer.enable_compression()

    sent = REQUESTS["compressible"]
    received = await send(rendered, sent, compress)
    assert b"Content-Encoding: gzip" in received
    assert received == await send(plain, sent, compress)


async def test_signals_are_asked_and_what_they_change_is_sent(send: Send) -> None:
    async def leave(_request: web.Request, answer: web.StreamResponse) -> None:
        answer.force_close()
        answer.headers["Connection"] = "close"

    received = await send(rendered, REQUESTS["get"], signal=leave)
    heads, _, _ = received.partition(b"\r\n\r\n")
    expected = await send(plain, REQUESTS["get"], signal=leave)
    # The one difference: here signals are asked before length, date and server are added.
    assert sorted(heads.split(b"\r\n")) == sorted(expected.partition(b"\r\n\r\n")[0].split(b"\r\n"))
    assert received.endswith(b"\r\n\r\n" + BODY)


async def test_an_answer_tells_what_an_ordinary_one_does() -> None:
    ours, theirs = rendered(429, "Too Many Requests"), plain(429, "Too Many Requests")
    assert list(ours.headers.items()) == list(theirs.headers.items())
    assert (ours.status, ours.reason, ours.body) == (theirs.status, theirs.reason, theirs.body)
    assert (ours.text, ours.content_type) == (theirs.text, theirs.content_type)
    assert (ours.content_length, ours.prepared) == (theirs.content_length, theirs.prepared)
    assert not hasattr(ours, "nothing_of_the_sort")


async def test_fields_told_after_somebody_looked_are_sent_too() -> None:
    answer = rendered()
    assert answer.headers["X-Request-Id"] == "r-1"
    answer.tell("X-Late: 1\r\n")  # type: ignore[attr-defined]
    assert answer.headers["X-Late"] == "1"


async def test_what_was_written_is_counted_and_a_slow_reader_waited_for(
    aiohttp_server: Any,
) -> None:
    body = b"x" * 8_000_000
    written: list[int] = []

    async def handler(request: web.Request) -> web.Response:
        answer = rendered(body=body)
        await answer.prepare(request)
        assert answer.prepared
        waiting = asyncio.create_task(answer.write_eof())
        done, _ = await asyncio.wait({waiting}, timeout=0.2)
        written.append(len(done))
        await waiting
        written.append(answer.body_length)
        written.append(request.writer.output_size)
        return answer

    app = web.Application()
    app.router.add_get("/", handler)
    server = await aiohttp_server(app)
    reader, writer = await asyncio.open_connection(server.host, server.port, limit=4096)
    writer.write(REQUESTS["close"])
    await asyncio.sleep(0.5)  # the answer is more than the buffers take: it stands half sent
    received = await asyncio.wait_for(reader.read(), 30)
    writer.close()
    assert received.endswith(body)
    assert written == [0, len(received), len(received)]
