"""``/ops`` on the internal listener: who may have it, what it shows, what can be done there."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import structlog.testing
from aiohttp import ClientResponse
from aiohttp.test_utils import TestClient

from service.api import keys
from service.api.handlers.ops import SHARED, STATIC
from service.app import create_internal_app
from service.settings import Settings, load
from tests.support.gate import TEXT, Gate, OpenGate, problem

API = "/ops/api/v1"
BY = {"by": "nora", "reason": "a drill"}
TOKEN = "a-token-for-operators"
OpenOps = Callable[..., Awaitable["TestClient[Any, Any]"]]
#: Of no job.
JOB = "0d9a2f6e-3c1b-4a57-9e68-5b7f21c4d803"
#: Every address behind the page, with something valid to send there.
CALLS: tuple[tuple[str, dict[str, Any] | None], ...] = (
    ("now", None),
    ("past", None),
    ("jobs", None),
    (f"jobs/{JOB}", None),
    ("principal", {"principal": "192.0.2.1"}),
    ("principal/reset", {"principal": "192.0.2.1", **BY}),
    ("breaker/force", {"state": "open", "seconds": 60, **BY}),
    ("breaker/reset", BY),
    ("policies/shadow", {"policy": "flows", "shadow": True, **BY}),
)


@pytest.fixture
def open_ops(gate: Gate, aiohttp_client: Any) -> OpenOps:
    """Opens the internal listener of the running application, with any settings."""

    async def make(**sections: dict[str, Any]) -> TestClient[Any, Any]:
        plain = load().settings.model_dump()
        settings = Settings.model_validate(
            {name: {**plain[name], **sections.get(name, {})} for name in ("server", "admin")}
        )
        opened: TestClient[Any, Any] = await aiohttp_client(
            await create_internal_app(settings, gate.app)
        )
        return opened

    return make


@pytest.fixture
async def ops(open_ops: OpenOps) -> TestClient[Any, Any]:
    return await open_ops()


async def call(
    ops: TestClient[Any, Any], path: str, body: Any = None, **options: Any
) -> ClientResponse:
    if body is None:
        return await ops.get(f"{API}/{path}", **options)
    return await ops.post(f"{API}/{path}", json=body, **options)


async def now_until(ops: TestClient[Any, Any], true: Callable[[Any], Any]) -> Any:
    async with asyncio.timeout(30):
        while True:
            answer = await call(ops, "now")
            assert answer.status == 200, await answer.text()
            seen = await answer.json()
            if true(seen):
                return seen
            await asyncio.sleep(0.2)


async def test_page_and_all_it_loads_come_from_here_and_are_strict(
    ops: TestClient[Any, Any],
) -> None:
    page = await ops.get("/ops")
    assert page.status == 200
    policy = page.headers["Content-Security-Policy"]
    for part in ("default-src 'none'", "script-src 'self'", "connect-src 'self'",
                 "frame-ancestors 'none'", "require-trusted-types-for 'script'"):  # fmt: skip
        assert part in policy
    assert "unsafe" not in policy
    text = await page.text()
    assert not re.search(r"<(script|style)[^>]*>[^<]|\son[a-z]+=|style=", text), "nothing inline"
    assert "$" not in text
    assets = set(re.findall(r'(?:src|href)="(ops/[^"]+)"', text))
    named = {address.rsplit("/", 1)[-1] for address in assets}
    files = {path.name for path in (*STATIC.iterdir(), *SHARED)} - {"page.html"}
    assert named == files
    for address in assets:
        answer = await ops.get(f"/{address}")
        assert answer.status == 200
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert "immutable" in answer.headers["Cache-Control"]
    sent = [re.findall(r'from "\./([a-z]+\.js)"', (await (await ops.get(f"/{a}")).text()))
            for a in assets if a.endswith(".js")]  # fmt: skip
    assert {name for names in sent for name in names} <= files
    await problem(await ops.get(f"/ops/{'0' * 16}/page.html"), 404, "not-found")


async def test_operations_are_on_the_internal_listener_only(gate: Gate) -> None:
    for path in ("/ops", f"{API}/now"):
        assert (await gate.get(path)).status == 404


async def test_on_loopback_everything_is_open(ops: TestClient[Any, Any]) -> None:
    for path, body in CALLS:
        answer = await call(ops, path, body)
        assert answer.status == (404 if path.startswith("jobs/") else 200), path
        assert answer.headers["Cache-Control"] == "no-store"


async def test_elsewhere_without_a_token_everything_is_off(open_ops: OpenOps) -> None:
    ops = await open_ops(server={"internal_host": "0.0.0.0"})  # noqa: S104
    page = await ops.get("/ops")
    assert page.status == 403
    assert "TOLLGATE_ADMIN__TOKEN is not set" in await page.text()
    for path, body in CALLS:
        await problem(await call(ops, path, body), 403, "operations-off")


async def test_elsewhere_the_token_opens_and_nothing_else_does(open_ops: OpenOps) -> None:
    where: dict[str, Any] = {"internal_host": "0.0.0.0"}  # noqa: S104
    ops = await open_ops(server=where, admin={"token": TOKEN})
    assert (await ops.get("/ops")).status == 200
    for path, body in CALLS:
        refused = await call(ops, path, body)
        await problem(refused, 401, "token-needed")
        assert refused.headers["WWW-Authenticate"].startswith("Bearer")
        headers = {"Authorization": f"Bearer {TOKEN}"}
        assert (await call(ops, path, body, headers=headers)).status in (200, 404)
    wrong = {"Authorization": "Bearer wrong"}
    for _ in range(5):
        await problem(await call(ops, "now", headers=wrong), 401, "token-needed")
    limited = await call(ops, "now", headers={"Authorization": f"Bearer {TOKEN}"})
    await problem(limited, 429, "too-many-wrong-tokens")
    assert int(limited.headers["Retry-After"]) > 0


async def test_other_pages_cannot_act_through_a_browser_here(
    ops: TestClient[Any, Any], gate: Gate
) -> None:
    for headers, code in (
        ({"Host": "evil.example"}, "operations-off"),
        ({"Host": "127.0.0.1.evil.example:8090"}, "operations-off"),
        ({"Origin": "http://evil.example"}, "foreign-origin"),
        ({"Sec-Fetch-Site": "cross-site"}, "foreign-origin"),
    ):
        for path, body in CALLS:
            await problem(await call(ops, path, body, headers=headers), 403, code)
    assert (await gate.app[keys.BREAKER].snapshot()).force is None


async def test_a_form_cannot_send_an_order(ops: TestClient[Any, Any]) -> None:
    answer = await ops.post(f"{API}/breaker/reset", data=b'{"by":"x","reason":"y"}')
    await problem(answer, 415, "unsupported-media-type")


async def test_now_tells_traffic_refusals_and_who(open_gate: OpenGate, aiohttp_client: Any) -> None:
    gate = await open_gate(limits={"demo": {"rate": "1/hour", "burst": 2}})
    ops = await aiohttp_client(await create_internal_app(load().settings, gate.app))
    for _ in range(12):
        await gate.get("/flows")
        await gate.get("/text-summary/demo")
    seen = await now_until(
        ops, lambda now: now["numbers"]["policies"].get("demo", {}).get("denied")
    )
    assert seen["whole"]
    assert seen["numbers"]["answers"]["flows"]["2xx"] > 0
    assert seen["numbers"]["answers"]["demo"]["429"] > seen["numbers"]["answers"]["demo"]["2xx"]
    assert seen["numbers"]["latency"]["flows"]["p95_ms"] > 0
    [denied] = seen["denied"]
    assert denied["kind"] == "address"
    assert "127.0.0.1" not in str(seen["denied"])
    looked = await (await call(ops, "principal", {"principal": "127.0.0.1"})).json()
    assert looked["hash"] == denied["hash"]
    bucket = next(b for b in looked["buckets"] if b["policy"] == "demo")
    assert (bucket["left"], bucket["burst"]) == (0, 2)
    [worker] = seen["workers"]
    assert worker["requests"] >= 24
    assert [p["name"] for p in seen["policies"] if p["shadow"]] == []
    samples = (await (await call(ops, "past")).json())["samples"]
    assert samples[0]["workers"] >= 0


async def test_now_tells_jobs_and_a_job_tells_its_history(
    gate: Gate, ops: TestClient[Any, Any]
) -> None:
    bought = await gate.buy()
    seen = await now_until(ops, lambda now: now["jobs"] and now["jobs"]["open"])
    assert seen["jobs"]["open"][0]["state"] == "awaiting_payment"
    listed = await (await call(ops, "jobs")).json()
    assert [job["id"] for job in listed["jobs"]] == [bought["job_id"]]
    assert (await (await call(ops, "jobs?state=failed")).json())["jobs"] == []
    job = await (await call(ops, f"jobs/{bought['job_id']}")).json()
    assert job["state"] == "awaiting_payment"
    assert [event["state"] for event in job["events"]] == ["creating", "awaiting_payment"]
    assert TEXT not in str(job)
    facts = dict(job["facts"])
    assert facts["client"] == "ip:127.0.0.1"


async def test_unknown_job_is_a_problem(ops: TestClient[Any, Any]) -> None:
    for name in ("nonsense", JOB, "0" * 32, "%00"):
        await problem(await call(ops, f"jobs/{name}"), 404, "unknown-job")


async def test_breaker_is_held_and_reset_and_who_did_it_is_told(
    gate: Gate, ops: TestClient[Any, Any]
) -> None:
    with structlog.testing.capture_logs() as logged:
        order = {"state": "open", "seconds": 60, "by": "nora", "reason": "it moves house"}
        done = await call(ops, "breaker/force", order)
        assert (await done.json())["done"] == "The breaker is held open for 60 s."
    [line] = [entry for entry in logged if entry["event"] == "operator_action"]
    assert (line["action"], line["reason"]) == ("breaker_forced", "it moves house")
    assert line["author"] == "nora (page, 127.0.0.1)"
    refused = await gate.post("/text-summary/start_job", {
        "identifier_from_purchaser": "a1b2c3d4e5f60718", "input_data": {"text": TEXT}})  # fmt: skip
    await problem(refused, 503, "payment-circuit-open")
    seen = await now_until(ops, lambda now: now["breaker"]["force"])
    assert seen["breaker"]["state"] == "open"
    assert seen["breaker"]["force"]["by"] == "nora (page, 127.0.0.1)"
    assert seen["changes"][0]["what"] == "breaker: forced open for 60 s"
    assert seen["changes"][0]["detail"] == "it moves house"
    assert (await call(ops, "breaker/reset", BY)).status == 200
    seen = await now_until(ops, lambda now: now["breaker"]["state"] == "closed")
    assert seen["changes"][0]["what"] == "breaker: reset"
    await gate.buy()


async def test_principals_buckets_are_filled(open_gate: OpenGate, aiohttp_client: Any) -> None:
    gate = await open_gate(limits={"demo": {"rate": "1/hour", "burst": 1}})
    ops = await aiohttp_client(await create_internal_app(load().settings, gate.app))
    assert (await gate.get("/text-summary/demo")).status == 200
    assert (await gate.get("/text-summary/demo")).status == 429
    order = {"principal": "127.0.0.1", "policy": "demo", **BY}
    done = await call(ops, "principal/reset", order)
    assert (await done.json())["done"] == "Filled: demo."
    async with asyncio.timeout(10):  # denied from memory for a second at most
        while (await gate.get("/text-summary/demo")).status != 200:
            await asyncio.sleep(0.05)
    again = await call(ops, "principal/reset", {"principal": "192.0.2.77", **BY})
    assert (await again.json())["done"] == "Every bucket was full already."
    seen = await now_until(ops, lambda now: len(now["changes"]) >= 2)
    details = [change["detail"] for change in seen["changes"]]
    assert "ip:127.0.0.1 demo: a drill" in details


async def test_policy_goes_on_trial_for_the_fleet_and_is_enforced_again(
    open_gate: OpenGate, aiohttp_client: Any
) -> None:
    gate = await open_gate(limits={"demo": {"rate": "1/hour", "burst": 1}})
    ops = await aiohttp_client(await create_internal_app(load().settings, gate.app))
    shadow = {"policy": "demo", **BY}
    assert (await call(ops, "policies/shadow", {**shadow, "shadow": True})).status == 200
    seen = await now_until(ops, lambda now: any(p["shadow"] for p in now["policies"]))
    assert [p["name"] for p in seen["policies"] if p["shadow"]] == ["demo"]
    assert seen["limits_version"].startswith("published-")
    assert {(await gate.get("/text-summary/demo")).status for _ in range(4)} == {200}
    await problem(
        await call(ops, "policies/shadow", {**shadow, "shadow": True}), 400, "invalid-input"
    )
    assert (await call(ops, "policies/shadow", {**shadow, "shadow": False})).status == 200
    await now_until(ops, lambda now: not any(p["shadow"] for p in now["policies"]))
    assert {(await gate.get("/text-summary/demo")).status for _ in range(4)} == {200, 429}
    what = [c["detail"] for c in seen["changes"] if c["what"] == "limits: shadow"]
    assert what == ["demo on trial: a drill"]


BAD_ORDERS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("breaker/force", {"state": "open", "seconds": 60, "by": "nora"}),
    ("breaker/force", {"state": "open", "seconds": 60, "by": "nora", "reason": "  "}),
    ("breaker/force", {"state": "open", "seconds": 60, "by": "", "reason": "x"}),
    ("breaker/force", {"state": "half-open", "seconds": 60, **BY}),
    ("breaker/force", {"state": "open", "seconds": 0, **BY}),
    ("breaker/force", {"state": "open", "seconds": -1, **BY}),
    ("breaker/force", {"state": "open", "seconds": 86_401, **BY}),
    ("breaker/force", {"state": "open", "seconds": 60, "more": 1, **BY}),
    ("breaker/reset", {"by": "n" * 61, "reason": "x"}),
    ("breaker/reset", {"by": "nora", "reason": "x" * 201}),
    ("breaker/reset", {}),
    ("principal/reset", {"principal": "not an address", **BY}),
    ("principal/reset", {"principal": "key:nobody", **BY}),
    ("principal/reset", {"principal": "192.0.2.1", "policy": "nosuch", **BY}),
    ("principal", {"principal": ""}),
    ("principal", {"principal": "x" * 201}),
    ("policies/shadow", {"policy": "nosuch", "shadow": True, **BY}),
    ("policies/shadow", {"policy": "flows", "shadow": False, **BY}),
    ("policies/shadow", {"policy": "flows", "shadow": "yes", **BY}),
)


async def test_bad_order_is_a_problem_and_does_nothing(ops: TestClient[Any, Any]) -> None:
    for path, body in BAD_ORDERS:
        await problem(await call(ops, path, body), 400, "invalid-input")
    await problem(await call(ops, "jobs?state=nosuch"), 400, "invalid-input")
    large = {"by": "n", "reason": "x" * 5000}
    await problem(await call(ops, "breaker/reset", large), 413, "body-too-large")
    seen = await now_until(ops, lambda now: now["workers"])
    assert seen["changes"] == []
    assert seen["breaker"]["state"] == "closed"


@pytest.mark.parametrize("given", ["canarySecretOfAKey", "key:canarySecretOfAKey"])
async def test_what_was_looked_up_in_vain_is_told_to_who_asked_and_not_to_the_log(
    ops: TestClient[Any, Any], given: str
) -> None:
    with structlog.testing.capture_logs() as entries:
        answer = await call(ops, "principal", {"principal": given})
        found = await problem(answer, 400, "invalid-input")
        assert (await call(ops, "jobs?state=canary")).status == 400
    assert "canarySecretOfAKey" in found["errors"][0]["detail"]
    told = [entry for entry in entries if entry["event"] == "request"]
    assert len(told) == 2
    assert "canary" not in str(entries)


async def test_without_redis_the_page_shows_this_worker_and_orders_fail(
    open_gate: OpenGate, aiohttp_client: Any, private_valkey: Any
) -> None:
    server = private_valkey()
    gate = await open_gate(redis_url=server.url)
    ops = await aiohttp_client(await create_internal_app(load().settings, gate.app))
    await now_until(ops, lambda now: now["whole"] and now["workers"])
    server.kill()
    seen = await now_until(ops, lambda now: not now["whole"])
    assert len(seen["workers"]) == 1
    assert seen["breaker"]["local"]
    assert seen["jobs"]["open"] == []
    for path, body in CALLS[4:]:
        await problem(await call(ops, path, body), 503, "redis-unavailable")
    assert await (await call(ops, "past")).json() == {"samples": []}


async def test_without_the_database_jobs_are_left_out_and_the_rest_is_there(
    open_gate: OpenGate, aiohttp_client: Any, private_postgres: Any
) -> None:
    server = private_postgres()
    server.stop()
    gate = await open_gate(database_url=server.url, flows=None)
    ops = await aiohttp_client(await create_internal_app(load().settings, gate.app))
    seen = await now_until(ops, lambda now: now["workers"])
    assert seen["jobs"] is None
    assert seen["jobs_away"] == "database-unavailable"
    await problem(await call(ops, f"jobs/{JOB}"), 503, "database-unavailable")
