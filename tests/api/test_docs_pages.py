"""The interface describes itself, without a byte from elsewhere."""

from __future__ import annotations

import re

from openapi_spec_validator import validate

from tests.support.gate import Gate, problem


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
