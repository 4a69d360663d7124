"""The interface describes itself, without a byte from elsewhere."""

from __future__ import annotations

import re

import pytest
from openapi_spec_validator import validate

from tests.support.gate import Gate, OpenGate, problem


async def test_document_is_served_and_valid(gate: Gate) -> None:
    answer = await gate.get("/openapi.json")
    assert answer.status == 200
    document = await answer.json()
    assert document["openapi"] == "3.1.0"
    validate(document)


async def test_page_and_all_it_loads_come_from_here(gate: Gate) -> None:
    page = await gate.get("/docs")
    assert page.status == 200
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]
    text = await page.text()
    assets = re.findall(r'(?:src|href)="([^"]+)"', text)
    assert len(assets) == 3
    assert "http" not in text
    for asset in assets:
        answer = await gate.get(f"/{asset}")
        assert answer.status == 200
        assert answer.content_type in ("text/css", "text/javascript")
        assert len(await answer.read()) > 100
    script = await (await gate.get("/docs/init.js")).text()
    assert 'url: "openapi.json"' in script


async def test_nothing_else_is_served_from_there(gate: Gate) -> None:
    for name in ("LICENSE", "..%2f..%2froutes.py", "index.html", "%00"):
        await problem(await gate.get(f"/docs/{name}"), 404, "not-found")


@pytest.mark.parametrize("fast", [True, False])
async def test_only_a_range_of_bytes_is_taken_for_one(open_gate: OpenGate, fast: bool) -> None:
    gate = await open_gate(server={"fast_answers": fast})
    path = "/docs/init.js"
    whole = await gate.get(path)
    text, tag, date = await whole.read(), whole.headers["ETag"], whole.headers["Last-Modified"]
    for fields, expected in (
        ({"Range": "bytes=1-4"}, text[1:5]),
        ({"Range": "Bytes=-4"}, text[-4:]),
        ({"Range": "bytes=4-", "If-Range": date}, text[4:]),
        ({"Range": "bytes=4-", "If-Range": tag}, None),
        ({"Range": "bytes=4-", "If-Range": '"another"'}, None),
        ({"Range": "bytes=0-1,4-5"}, None),
        ({"Range": "lines=1-2"}, None),
        ({"Range": "bytes=-"}, None),
        ({"Range": "nonsense"}, None),
    ):
        answer = await gate.get(path, headers=fields)
        assert answer.status == (200 if expected is None else 206), fields
        assert await answer.read() == (text if expected is None else expected)
        assert answer.headers["ETag"] == tag
        assert answer.headers["RateLimit"]
    beyond = await gate.get(path, headers={"Range": f"bytes={len(text)}-"})
    assert beyond.status == 416
    known = await gate.get(path, headers={"Range": "lines=1-2", "If-None-Match": tag})
    assert known.status == 304
