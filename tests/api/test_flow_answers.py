"""Answers from kept flows: tags, codings, ages, marks; and the plain way sends the same bytes."""

from __future__ import annotations

import asyncio
import gzip
import json
import re
import tomllib
from collections.abc import Callable
from pathlib import Path

from aiohttp import ClientResponse

from scripts.devservers import EmbeddedPostgres
from service.api import keys
from service.flows.importing import read_definitions
from tests.support.gate import FLOWS, Gate, OpenGate, problem
from tests.support.servers import execute, migrate

#: Every answer that is kept; the second of each pair is long enough to be compressed.
PATHS = ("/flows/text-summary", "/flows", "/text-summary/demo", "/text-summary/input_schema",
         "/demo?flow=text-summary", "/openapi.json")  # fmt: skip
LONG = ("/flows", "/openapi.json")
#: If-None-Match, and what comes of it.
FORMS = {
    "{tag}": 304, "W/{tag}": 304, '"a", {tag}': 304, 'W/"a,b" ,\t W/{tag} , "c"': 304,
    ", {tag},": 304, "*": 304, " * ": 304,
    '"*"': 200, '"other"': 200, '"{bare}x"': 200, "{bare}": 200, "bad, {tag}": 200,
    '"open, {tag}': 200, "*, {bare}": 200, "": 200,
}  # fmt: skip
#: What is asked for, lines of Accept-Encoding, and the coding that is sent.
CHOICES: list[tuple[str, list[str], str | None]] = [
    ("/flows", ["identity"], None),
    ("/flows", ["gzip;q=0"], None),
    ("/flows", ["gzip;q=0.1, identity;q=0.9"], None),
    ("/flows", [""], None),
    ("/flows", ["*;q=0"], None),
    ("/flows", ["*"], "gzip"),
    ("/flows", ["identity;q=0, *"], "gzip"),
    ("/flows", ["br", "gzip"], "gzip"),
    ("/flows/text-summary", ["gzip"], None),
    ("/flows/text-summary", ["gzip, identity;q=0"], "gzip"),
]
FRESH = {"fresh_seconds": 0.2, "local_seconds": 0.05}


async def raw(gate: Gate, path: str, *fields: str, method: str = "GET") -> tuple[str, bytes]:
    """Head and body as they are sent."""
    reader, writer = await asyncio.open_connection(gate.client.host, gate.client.port)
    lines = [f"{method} {path} HTTP/1.1", "Host: x", "Connection: close", *fields, "", ""]
    writer.write("\r\n".join(lines).encode())
    received = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    head, _, body = received.partition(b"\r\n\r\n")
    return head.decode(), body


def field(head: str, name: str) -> str | None:
    found = re.findall(rf"(?mi)^{name}: (.*?)\r?$", head)
    assert len(found) <= 1, head
    return found[0] if found else None


async def test_answers_may_be_kept_and_must_be_asked_about(gate: Gate) -> None:
    tags = set()
    for path in PATHS:
        answer = await gate.get(path, headers={"Accept-Encoding": "identity"})
        assert answer.status == 200
        assert answer.headers["Cache-Control"] == "no-cache"
        assert re.fullmatch(r'"[0-9a-f]{32}"', answer.headers["ETag"])
        assert answer.headers["Vary"] == "Accept-Encoding"
        assert answer.content_type == "application/json"
        assert "Cache-Status" not in answer.headers
        assert "RateLimit" in answer.headers
        if path != "/openapi.json":
            assert 0 <= int(answer.headers["Age"]) < 60
        tags.add(answer.headers["ETag"])
    assert len(tags) == len(PATHS) - 1  # the same demonstration twice


async def test_what_a_client_has_is_not_sent_again(gate: Gate) -> None:
    for path in PATHS:
        head, _ = await raw(gate, path)
        tag = field(head, "ETag") or ""
        for form, status in FORMS.items():
            line = "If-None-Match: " + form.format(tag=tag, bare=tag[1:-1])
            head, body = await raw(gate, path, line)
            assert head.startswith(f"HTTP/1.1 {status} "), line
            assert field(head, "ETag") == tag
            assert field(head, "Cache-Control") == "no-cache"
            assert field(head, "Vary") == "Accept-Encoding"
            assert (body == b"") == (status == 304)
            if status == 304:
                assert field(head, "Content-Type") is None
                assert field(head, "RateLimit") is None
        several = ('If-None-Match: "a"', f"If-None-Match: {tag}")
        assert (await raw(gate, path, *several))[0].startswith("HTTP/1.1 304 ")


async def test_long_answers_are_compressed_for_those_who_want_it(gate: Gate) -> None:
    for path in LONG:
        plain_head, plain = await raw(gate, path)
        head, body = await raw(gate, path, "Accept-Encoding: br;q=1, gzip;q=0.5")
        assert field(head, "Content-Encoding") == "gzip"
        assert field(head, "Content-Length") == str(len(body))
        assert gzip.decompress(body) == plain
        assert len(body) < len(plain)
        assert field(head, "ETag") != field(plain_head, "ETag")
        again, _ = await raw(gate, path, "Accept-Encoding: gzip")
        assert field(again, "ETag") == field(head, "ETag")


async def test_coding_that_is_chosen(gate: Gate) -> None:
    for path, accepted, coding in CHOICES:
        _, plain = await raw(gate, path)
        head, body = await raw(gate, path, *(f"Accept-Encoding: {line}" for line in accepted))
        assert field(head, "Content-Encoding") == coding, accepted
        assert (gzip.decompress(body) if coding else body) == plain
        assert field(head, "Vary") == "Accept-Encoding"


async def test_whichever_coding_a_client_has_is_not_sent_again(gate: Gate) -> None:
    for path in LONG:
        plain, _ = await raw(gate, path)
        coded, _ = await raw(gate, path, "Accept-Encoding: gzip")
        for known, accepted, status in (
            (plain, "gzip", 304),  # it accepts what it has, too
            (coded, "gzip", 304),
            (coded, "identity", 200),
            (plain, "gzip, identity;q=0", 200),
        ):
            tag = field(known, "ETag")
            lines = (f"Accept-Encoding: {accepted}", f"If-None-Match: {tag}")
            head, _ = await raw(gate, path, *lines)
            assert head.startswith(f"HTTP/1.1 {status} ")
            assert (field(head, "ETag") == tag) == (status == 304)


async def test_head_tells_what_get_would(gate: Gate) -> None:
    for path in PATHS:
        for accepted in ("identity", "gzip"):
            line = f"Accept-Encoding: {accepted}"
            got, body = await raw(gate, path, line)
            head, nothing = await raw(gate, path, line, method="HEAD")
            assert nothing == b""
            assert field(head, "Content-Length") == str(len(body))
            for name in ("ETag", "Cache-Control", "Vary", "Content-Encoding", "Content-Type"):
                assert field(head, name) == field(got, name)
            tag = field(got, "ETag")
            known, _ = await raw(gate, path, line, f"If-None-Match: {tag}", method="HEAD")
            assert known.startswith("HTTP/1.1 304 ")


async def test_both_ways_send_the_same_bytes(open_gate: OpenGate) -> None:
    fast = await open_gate(server={"fast_answers": True})
    plain = await open_gate(server={"fast_answers": False})
    changing = re.compile(r"(?m)^(Date|X-Request-Id|RateLimit|Age): .*$")
    cases = [(path, [f"Accept-Encoding: {coding}", f"If-None-Match: {known}"])
             for path in (*PATHS, "/flows?limit=1")
             for coding in ("identity", "gzip") for known in ('"a"', "*")]  # fmt: skip
    for path, lines in cases:
        for method in ("GET", "HEAD"):
            answers = [await raw(gate, path, *lines, method=method) for gate in (fast, plain)]
            (head, body), (plain_head, plain_body) = answers
            assert changing.sub(r"\1", head) == changing.sub(r"\1", plain_head)
            assert body == plain_body


async def test_changed_flow_has_another_tag_at_once_and_the_old_one_again(gate: Gate) -> None:
    catalog = gate.app[keys.CATALOG]
    definitions = read_definitions(FLOWS)
    paths = ("/flows", "/flows/text-summary", "/text-summary/demo", "/flows/csv-profile")
    before = [(await gate.get(path)).headers["ETag"] for path in paths]
    changed = [
        definition.model_copy(update={"version": "9.9.9"})
        if definition.slug == "text-summary"
        else definition
        for definition in definitions
    ]
    await catalog.store(changed)
    after = [(await gate.get(path)).headers["ETag"] for path in paths]
    # Of what changed, and only of that.
    assert [new == old for new, old in zip(after, before, strict=True)] == [
        False, False, True, True,
    ]  # fmt: skip
    listed = (await (await gate.get("/flows")).json())["flows"]
    assert {flow["id"]: flow["version"] for flow in listed}["text-summary"] == "9.9.9"
    await catalog.store(definitions)
    assert [(await gate.get(path)).headers["ETag"] for path in paths] == before


async def test_what_cannot_be_read_anew_is_given_with_its_age_and_a_mark(
    open_gate: OpenGate, private_postgres: Callable[..., EmbeddedPostgres]
) -> None:
    server = private_postgres()
    migrate(server.url)
    gate = await open_gate(database_url=server.url, cache=FRESH)
    paths = ("/flows/text-summary", "/flows", "/text-summary/demo", "/text-summary/input_schema")
    before = {path: await (await gate.get(path)).read() for path in paths}
    server.stop()
    for path in paths:
        answer = await _marked(gate, path)
        assert await answer.read() == before[path]
        assert answer.headers["Cache-Status"] == "tollgate; hit; detail=refresh-failed"
        known = await gate.get(path, headers={"If-None-Match": answer.headers["ETag"]})
        assert known.status == 304
        assert int(known.headers["Age"]) >= int(answer.headers["Age"])
    # It cannot be known whether there is such a flow by now.
    await problem(await gate.get("/flows/never-heard-of"), 503, "database-unavailable")
    server.start()
    async with asyncio.timeout(20):
        while "Cache-Status" in (await gate.get("/flows/text-summary")).headers:
            await asyncio.sleep(0.05)


async def _marked(gate: Gate, path: str) -> ClientResponse:
    """The answer as soon as it is both marked and at least a second old."""
    async with asyncio.timeout(20):
        while True:
            answer = await gate.get(path)
            assert answer.status == 200
            if "Cache-Status" in answer.headers and int(answer.headers["Age"]) >= 1:
                return answer
            await asyncio.sleep(0.05)


async def test_unreadable_flow_is_unavailable_logged_and_counted_and_the_list_goes_on(
    gate: Gate,
) -> None:
    execute(
        gate.database_url,
        "UPDATE flows SET definition = definition || '{\"colour\": 1}' WHERE slug = 'text-summary'",
    )
    async with asyncio.timeout(10):
        while (await gate.get("/flows/text-summary")).status == 200:
            await asyncio.sleep(0.01)
    for path in ("/flows/text-summary", "/text-summary/demo", "/text-summary+free/availability"):
        answer = await gate.get(path)
        body = await problem(answer, 503, "flow-unavailable")
        assert body["dependency"] == "catalog"
        assert int(answer.headers["Retry-After"]) >= 1
    started = await gate.post("/text-summary+free/start_job", {"input_data": {"text": "x " * 20}})
    await problem(started, 503, "flow-unavailable")
    listed = await (await gate.get("/flows")).json()
    assert [flow["id"] for flow in listed["flows"]] == ["csv-profile", "tailored-letter"]
    page = await (await gate.get("/metrics")).text()
    found = re.search(r"(?m)^tollgate_flows_unreadable_total (\S+)$", page)
    assert found is not None
    assert float(found[1]) >= 1


async def test_cursor_beyond_the_list_is_an_empty_page(gate: Gate) -> None:
    body = await (await gate.get("/flows", params={"cursor": "enp6eg=="})).json()
    assert body == {"flows": []}


async def test_compressed_text_is_the_text(open_gate: OpenGate, tmp_path: Path) -> None:
    source = tmp_path / "long.json"
    flow = tomllib.loads(FLOWS.read_text())["flows"][0]
    source.write_text(json.dumps({"flows": [{**flow, "description": "é" * 5000}]}))
    gate = await open_gate(flows=source)
    head, body = await raw(gate, "/flows/text-summary", "Accept-Encoding: gzip")
    assert field(head, "Content-Encoding") == "gzip"
    assert json.loads(gzip.decompress(body))["description"] == "é" * 5000
