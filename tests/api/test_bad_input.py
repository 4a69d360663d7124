"""What no client should send: each gets its own 4xx, once in the log, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import re
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
import structlog

from service.api import json_body
from tests.support.gate import IDENTIFIER, TEXT, Gate, OpenGate, problem
from tests.support.postgres import ask
from tests.support.waiting import until

JSON = {"Content-Type": "application/json"}
START = "/text-summary/start_job"
LIMIT = 1024 * 1024
PACKED: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.compress, "deflate": zlib.compress}
#: A connection that is in order answers this too, and ends.
LAST = b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
TABLES = ("jobs", "job_events", "idempotency_keys")


@pytest.fixture
def logged() -> Iterator[list[Any]]:
    with structlog.testing.capture_logs() as entries:
        yield entries


def body(text: str) -> bytes:
    """A purchase whose text is written as it stands, escapes and all."""
    return f'{{"identifier_from_purchaser":"{IDENTIFIER}","input_data":{{"text":{text}}}}}'.encode()


def written(gate: Gate) -> int:
    return sum(
        int(ask(gate.database_url, f"SELECT count(*) FROM {table}")[0][0]) for table in TABLES
    )


async def exchange(gate: Gate, sent: bytes) -> bytes:
    """All that is answered on a connection of its own, until nothing more can come."""
    reader, writer = await asyncio.open_connection(gate.client.host, gate.client.port)
    try:
        writer.write(sent)
        if not sent.endswith(LAST):
            return await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)
        return await asyncio.wait_for(reader.read(), 30)
    finally:
        writer.close()


def statuses(answers: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1\.1 ([0-9]{3}) ", answers)]


BODIES = {
    "NUL in a string": (body(r'"a\u0000b"'), 400, "malformed-body"),
    "NUL in a key": (b'{"input_data":{"\\u0000":1}}', 400, "malformed-body"),
    "raw NUL": (body('"a\x00b"'), 400, "malformed-body"),
    "lone surrogate": (body(r'"\ud800"'), 400, "malformed-body"),
    "lone surrogate in a key": (b'{"input_data":{"\\udc00":1}}', 400, "malformed-body"),
    "surrogate in UTF-8": (body('"x"').replace(b"x", b"\xed\xa0\x80"), 400, "malformed-body"),
    "not UTF-8": (body('"x"').replace(b"x", b"\xff"), 400, "malformed-body"),
    "10^400": (body("1" + "0" * 400), 400, "malformed-body"),
    "an integer of 5000 digits": (body("9" * 5000), 400, "malformed-body"),
    "1e400": (body("1e400"), 400, "malformed-body"),
    "2^53": (body(str(2**53)), 400, "malformed-body"),
    "NaN": (body("NaN"), 400, "malformed-body"),
    "Infinity": (body("-Infinity"), 400, "malformed-body"),
    "nested 10,000 deep": (body("[" * 10_000 + "]" * 10_000), 400, "malformed-body"),
    "nested 100 deep": (body("[" * 100 + "]" * 100), 400, "malformed-body"),
    "truncated": (body('"text"')[:-3], 400, "malformed-body"),
    "empty": (b"", 400, "malformed-body"),
    "no object": (b"[1]", 400, "malformed-body"),
    "duplicate key": (b'{"input_data":{},"input_data":{}}', 400, "malformed-body"),
    "2 MiB": (body(json.dumps("x" * 2 * LIMIT)), 413, "body-too-large"),
    "wrong type for text": (body("17"), 400, "invalid-input"),
    "input that is no object": (b'{"input_data":[1]}', 400, "invalid-input"),
}


@pytest.mark.parametrize("case", BODIES)
async def test_bad_body_is_refused_once_and_leaves_nothing(
    gate: Gate, logged: list[Any], case: str
) -> None:
    raw, status, code = BODIES[case]
    logged.clear()
    answer = await gate.post(START, data=io.BytesIO(raw), headers=JSON)
    told = await problem(answer, status, code)
    assert told["detail"]
    lines = [entry for entry in logged if entry.get("problem") or "crash" in entry["event"]]
    assert [(line["event"], line["problem"]) for line in lines] == [("request", code)]
    assert gate.payment_calls() == 0
    assert written(gate) == 0


@pytest.mark.parametrize(
    "content_type",
    ["text/plain", "application/xml", "application/json; charset=latin-1", "multipart/form-data",
     "", "nonsense", "application/problem+json"],
)  # fmt: skip
async def test_other_media_types_are_refused(gate: Gate, content_type: str) -> None:
    answer = await gate.post(START, data=body('"x"'), headers={"Content-Type": content_type})
    await problem(answer, 415, "unsupported-media-type")


@pytest.mark.parametrize("content_type", ["application/json;charset=UTF-8", "Application/JSON"])
async def test_spellings_of_json_are_taken(gate: Gate, content_type: str) -> None:
    raw = body(json.dumps(TEXT))
    answer = await gate.post(START, data=raw, headers={"Content-Type": content_type})
    assert answer.status == 200


async def chunks(total: int) -> AsyncIterator[bytes]:
    for _ in range(total // 65536):
        yield b" " * 65536


async def test_body_of_unknown_length_is_limited_too(gate: Gate) -> None:
    answer = await gate.post(START, data=chunks(2 * LIMIT), headers=JSON)
    told = await problem(answer, 413, "body-too-large")
    assert str(LIMIT) in told["detail"]


async def test_compressed_body_is_limited_by_what_it_holds(gate: Gate) -> None:
    bomb = gzip.compress(b" " * 20 * LIMIT)
    answer = await gate.post(START, data=bomb, headers={**JSON, "Content-Encoding": "gzip"})
    await problem(answer, 413, "body-too-large")


async def test_broken_compression_is_a_malformed_body(gate: Gate) -> None:
    for coding, pack in PACKED.items():
        whole = pack(body(json.dumps(TEXT)))
        for sent in (b"garbage", whole[:-1], whole[: len(whole) // 2], whole + whole, b""):
            headers = {**JSON, "Content-Encoding": coding}
            answer = await gate.post(START, data=sent, headers=headers)
            await problem(answer, 400, "malformed-body")
    assert written(gate) == 0


async def test_compressed_body_is_read(gate: Gate) -> None:
    plain = body(json.dumps(TEXT))
    zipped, deflated = gzip.compress(plain), zlib.compress(plain)
    for field, sent in {
        "gzip": zipped,
        "X-GZip": zipped,
        "identity, gzip": zipped,
        "deflate": deflated,
        "Deflate": deflated[2:-4],  # the bare stream, as some send it
        "identity": plain,
    }.items():
        answer = await gate.post(START, data=sent, headers={**JSON, "Content-Encoding": field})
        assert answer.status == 200, field


async def test_other_codings_are_refused(gate: Gate) -> None:
    for field in ("br", "zstd", "compress", "gzip, gzip", "gzip;q=1", "nonsense"):
        answer = await gate.post(START, data=b"{}", headers={**JSON, "Content-Encoding": field})
        told = await problem(answer, 415, "unsupported-coding")
        assert "gzip" in told["detail"]
        assert answer.headers["Accept-Encoding"] == "gzip, deflate"


async def test_compressed_body_that_nobody_reads_is_not_unpacked(gate: Gate) -> None:
    """Unpacked, it could be a thousand times its size; this one cannot be, which would show."""
    for target in ("POST /nowhere/at/all", "GET /livez", f"POST {START}"):
        sent = f"{target} HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\n"
        sent += "Content-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc"
        assert statuses(await exchange(gate, sent.encode() + LAST))[1:] == [200], target


@pytest.mark.parametrize("fast", [True, False])
async def test_unknown_expectation_is_passed_over(
    open_gate: OpenGate, logged: list[Any], fast: bool
) -> None:
    gate = await open_gate(server={"fast_answers": fast})
    for path, status in ((b"/flows", 200), (b"/nowhere/at/all", 404)):
        for expected in (b"bananas", b"\xff", b"", b"100-continue, more"):
            logged.clear()
            sent = b"GET %s HTTP/1.1\r\nHost: x\r\nExpect: %s\r\n\r\n" % (path, expected)
            assert statuses(await exchange(gate, sent + LAST)) == [status, 200]
            told = [line["status"] for line in logged if line["event"] == "request"]
            assert told == [status, 200]


async def test_expected_continue_is_said_before_the_body_comes(gate: Gate) -> None:
    reader, writer = await asyncio.open_connection(gate.client.host, gate.client.port)
    sent = body(json.dumps(TEXT))
    head = f"POST {START} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    writer.write(f"{head}Expect: 100-Continue\r\nContent-Length: {len(sent)}\r\n\r\n".encode())
    assert await asyncio.wait_for(reader.readline(), 30) == b"HTTP/1.1 100 Continue\r\n"
    writer.write(sent + LAST)
    assert statuses(await asyncio.wait_for(reader.read(), 30)) == [200, 200]
    writer.close()


async def test_host_that_cannot_be_decoded_is_not_looked_at(gate: Gate) -> None:
    for host in ("xn--", "xn--a", "user@xn--zz--:80"):
        sent = f"GET http://{host}/flows HTTP/1.1\r\nHost: x\r\n\r\n".encode()
        assert statuses(await exchange(gate, sent + LAST)) == [200, 200]
        sent = f"CONNECT {host} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
        assert statuses(await exchange(gate, sent)) == [404]


async def test_body_that_is_never_finished_is_nobodys_crash(gate: Gate, logged: list[Any]) -> None:
    _, writer = await asyncio.open_connection(gate.client.host, gate.client.port)
    head = f"POST {START} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    writer.write(f"{head}Content-Length: 100\r\n\r\n{{".encode())
    await writer.drain()
    await asyncio.sleep(0.1)  # the service has begun to read by now
    writer.close()
    await until(lambda: [entry for entry in logged if entry["event"] == "request"])
    assert not [entry for entry in logged if entry["event"] == "request_crashed"]
    assert written(gate) == 0


async def test_body_that_does_not_come_is_the_clients_failure(
    gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_body, "LIMIT_S", 0.1)
    reader, writer = await asyncio.open_connection(gate.client.host, gate.client.port)
    head = f"POST {START} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    writer.write(f"{head}Content-Length: 100\r\n\r\n{{".encode())
    told = (await asyncio.wait_for(reader.readuntil(b"}"), 30)).decode()
    writer.close()
    assert told.startswith("HTTP/1.1 408 ")
    assert "\r\nConnection: close\r\n" in told
    assert json.loads(told.partition("\r\n\r\n")[2])["type"].endswith(":body-too-slow")
    assert written(gate) == 0


async def test_unknown_flow_is_told_before_anything_is_written(gate: Gate) -> None:
    sent = {"identifier_from_purchaser": IDENTIFIER, "input_data": {"text": TEXT}}
    await problem(await gate.post("/nothing/start_job", sent), 404, "unknown-flow")
    await problem(await gate.post("/start_job", {**sent, "flow": "a\nb"}), 404, "unknown-flow")
    assert written(gate) == 0


@pytest.mark.parametrize("path", ["/nowhere", "/text-summary", "/%00", "/%ff", "/a/b/c", "/..%2f"])
async def test_unknown_address(gate: Gate, path: str) -> None:
    await problem(await gate.get(path), 404, "not-found")


async def test_wrong_method_names_the_right_ones(gate: Gate) -> None:
    answer = await gate.get(START)
    await problem(answer, 405, "method-not-allowed")
    assert answer.headers["Allow"] == "POST"
    answer = await gate.post("/flows", {})
    await problem(answer, 405, "method-not-allowed")
    assert answer.headers["Allow"] == "GET,HEAD"


async def test_header_fields_of_any_bytes_do_no_harm(gate: Gate) -> None:
    reader, writer = await asyncio.open_connection(gate.client.host, gate.client.port)
    writer.write(
        b"GET /text-summary/demo HTTP/1.1\r\nHost: \xff\r\nX-Request-Id: \xff\r\n"
        b'If-None-Match: \xff"\r\nX-Forwarded-For: \xff\r\nConnection: close\r\n\r\n'
    )
    answer = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    assert answer.startswith((b"HTTP/1.1 200", b"HTTP/1.1 400"))
