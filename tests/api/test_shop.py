"""The page for purchasers is served whole, small and strict, or not at all."""

from __future__ import annotations

import gzip
import re

import pytest

from service.api.handlers.shop import STATIC
from tests.support.gate import Gate, OpenGate, problem

#: Markup, style and modules together, as browsers get them.
MOST_BYTES = 60_000


async def assets_of(gate: Gate) -> list[str]:
    text = await (await gate.get("/")).text()
    return re.findall(r'(?:src|href)="(shop/[^"]+)"', text)


@pytest.mark.parametrize("path", ["/", "/shop"])
async def test_page_and_all_it_loads_come_from_here(gate: Gate, path: str) -> None:
    page = await gate.get(path)
    assert page.status == 200
    assert page.content_type == "text/html"
    text = await page.text()
    assert not re.search(r"<(script|style)[^>]*>[^<]|\son[a-z]+=|style=", text), "nothing inline"
    loaded = re.findall(r'(?:src|<link[^>]*href)="?([^" ]+)', text)
    assert not [address for address in loaded if address.startswith(("http", "//"))]
    named = {address.rsplit("/", 1)[-1] for address in await assets_of(gate)}
    assert named == {path.name for path in STATIC.iterdir()} - {"page.html"}
    for address in await assets_of(gate):
        answer = await gate.get(f"/{address}")
        assert answer.status == 200
        assert answer.content_type in ("text/css", "text/javascript", "image/svg+xml")
        assert answer.headers["X-Content-Type-Options"] == "nosniff"


async def test_page_may_do_nothing_but_what_it_does(gate: Gate) -> None:
    headers = (await gate.get("/")).headers
    parts = headers["Content-Security-Policy"].split(";")
    policy = dict(part.strip().partition(" ")[::2] for part in parts)
    assert policy["default-src"] == "'none'"
    assert policy["connect-src"] == "'self'"
    assert {policy[name] for name in ("script-src", "style-src", "img-src")} == {"'self'"}
    assert policy["require-trusted-types-for"] == "'script'"
    closed = ("base-uri", "form-action", "frame-ancestors", "trusted-types")
    assert {policy[name] for name in closed} == {"'none'"}
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Cross-Origin-Opener-Policy"] == "same-origin"


async def test_page_is_asked_about_each_time_and_its_files_never_again(gate: Gate) -> None:
    for address, cache in (("/", "no-cache"), (f"/{(await assets_of(gate))[0]}", "immutable")):
        first = await gate.get(address)
        assert cache in first.headers["Cache-Control"]
        known = {"If-None-Match": first.headers["ETag"]}
        again = await gate.get(address, headers=known)
        assert (again.status, await again.read()) == (304, b"")
        assert again.headers["ETag"] == first.headers["ETag"]
        assert again.headers["Cache-Control"] == first.headers["Cache-Control"]


async def test_files_of_another_version_are_ours_and_not_kept(gate: Gate) -> None:
    name = (await assets_of(gate))[-1].rsplit("/", 1)[-1]
    answer = await gate.get(f"/shop/0123456789abcdef/{name}")
    assert answer.status == 200
    assert answer.headers["Cache-Control"] == "no-cache"


async def test_head_tells_the_same_without_a_body(gate: Gate) -> None:
    for address in ("/", f"/{(await assets_of(gate))[0]}"):
        got = await gate.get(address)
        head = await gate.client.head(address)
        assert head.status == 200
        assert await head.read() == b""
        for name in ("Content-Length", "Content-Type", "ETag", "Cache-Control"):
            assert head.headers[name] == got.headers[name]


async def test_all_of_it_is_small_and_compressed_for_who_can_read_that(gate: Gate) -> None:
    sent = 0
    for address in ("/", *(f"/{asset}" for asset in set(await assets_of(gate)))):
        plain = await gate.get(address, headers={"Accept-Encoding": "identity"})
        coded = await gate.client.get(
            address, headers={"Accept-Encoding": "gzip"}, auto_decompress=False
        )
        raw = await coded.read()
        assert coded.headers["Content-Encoding"] == "gzip"
        assert "Content-Encoding" not in plain.headers
        assert plain.headers["Vary"] == coded.headers["Vary"] == "Accept-Encoding"
        assert plain.headers["ETag"] != coded.headers["ETag"]
        assert gzip.decompress(raw) == await plain.read()
        sent += len(raw)
    assert sent < MOST_BYTES


async def test_nothing_else_is_served_from_there(gate: Gate) -> None:
    version = (await assets_of(gate))[0].split("/")[1]
    for name in ("page.html", "..%2f..%2froutes.py", "none.js", "%00"):
        await problem(await gate.get(f"/shop/{version}/{name}"), 404, "not-found")


async def test_switched_off_there_is_nothing(open_gate: OpenGate) -> None:
    gate = await open_gate(shop={"enabled": False})
    for path in ("/", "/shop", "/shop/0123456789abcdef/app.js"):
        await problem(await gate.get(path), 404, "not-found")


async def test_pages_of_a_sandbox_may_call_it_and_no_other(open_gate: OpenGate) -> None:
    origin = "http://127.0.0.1:3001"
    gate = await open_gate(shop={"sandbox_url": origin}, payment={"network": "Preprod"})
    page = await gate.get("/")
    assert f"connect-src 'self' {origin};" in page.headers["Content-Security-Policy"]
    assert f'data-sandbox="{origin}"' in await page.text()


async def test_page_tells_what_hashes_and_wallets_need(open_gate: OpenGate) -> None:
    gate = await open_gate(jobs={"result_hash": "raw"})
    text = await (await gate.get("/")).text()
    assert 'data-network="Preprod"' in text
    assert 'data-result-hash="raw"' in text
    assert 'data-sandbox=""' in text
    assert "$" not in text


async def test_page_is_limited_like_any_other_address(open_gate: OpenGate) -> None:
    gate = await open_gate(limits={"default": {"rate": "1/hour"}})
    assert (await gate.get("/")).status == 200
    assert (await gate.get("/shop")).status == 429


async def test_files_of_the_page_are_counted_apart_from_pages(open_gate: OpenGate) -> None:
    gate = await open_gate(limits={"default": {"rate": "1/hour"}, "assets": {"rate": "2/hour"}})
    paths = re.findall(r'(?:src|href)="(shop/[^"]+)"', await (await gate.get("/")).text())
    answers = [(await gate.get(f"/{path}")).status for path in paths[:3]]
    assert answers == [200, 200, 429]
