"""Who is asking, as clients meet it: keys, tiers, lists, fleet-wide limits, changes of all."""

from __future__ import annotations

import asyncio
from typing import Any

from service.admission.api_keys import KeyHash, new_key
from service.admission.published import PublishedLimits
from service.api import keys
from service.settings import LimitSettings, Settings, limits_document
from tests.support.gate import Gate, OpenGate, problem

SECRET = "a-secret-of-the-fleet"
KEY = new_key()
ADMIN = {"key_secret": SECRET}
ONCE = {"rate": "1/hour"}
SOLD = {
    "keys": {"acme": {"hash": KeyHash(SECRET).written(KEY), "tier": "gold"}},
    "tiers": {"gold": {"flows": {"rate": "3/hour"}}},
}
BEHIND_PROXY = {"trusted_proxies": ("127.0.0.0/8",)}


async def statuses(gate: Gate, path: str, times: int, **fields: str) -> list[int]:
    named = {name.replace("_", "-"): value for name, value in fields.items()}
    return [(await gate.get(path, headers=named)).status for _ in range(times)]


async def test_a_key_has_its_tiers_limit_and_a_bucket_of_its_own(open_gate: OpenGate) -> None:
    gate = await open_gate(limits={"flows": ONCE, **SOLD}, admin=ADMIN)
    assert await statuses(gate, "/flows", 2) == [200, 429]
    assert await statuses(gate, "/flows", 4, X_API_Key=KEY) == [200, 200, 200, 429]
    assert await statuses(gate, "/flows", 1, Authorization=f"Bearer {KEY}") == [429]


async def test_minted_keys_share_one_bucket(open_gate: OpenGate) -> None:
    gate = await open_gate(limits={"flows": ONCE, **SOLD}, admin=ADMIN)
    seen = [(await statuses(gate, "/flows", 1, X_API_Key=new_key()))[0] for _ in range(4)]
    assert seen == [200, 429, 429, 429]
    assert await statuses(gate, "/flows", 1) == [200], "their address is not charged for it"


async def test_rotating_paths_and_queries_mints_nothing(open_gate: OpenGate) -> None:
    gate = await open_gate(limits={"flows": ONCE, "default": ONCE})
    paths = ["/flows", "/flows?a=1", "/flows?a=2#x", "/flows/one", "/flows/two", "/%66lows"]
    seen = [(await gate.get(path)).status for path in paths]
    assert seen == [200, 429, 429, 429, 429, 429]
    unknown = [(await gate.get(f"/x/{i}/y")).status for i in range(3)]
    assert unknown == [404, 429, 429]


async def test_a_whole_network_of_ipv6_is_one_client(open_gate: OpenGate) -> None:
    gate = await open_gate(limits={"flows": ONCE}, server=BEHIND_PROXY)
    addresses = ["2001:db8:1:2::1", "2001:db8:1:2:ffff::9", "[2001:db8:1:2::3]:443"]
    seen = [(await statuses(gate, "/flows", 1, X_Forwarded_For=a))[0] for a in addresses]
    assert seen == [200, 429, 429]
    assert await statuses(gate, "/flows", 1, X_Forwarded_For="2001:db8:1:3::1") == [200]


async def test_denied_clients_are_told_so_and_cost_nothing(open_gate: OpenGate) -> None:
    gate = await open_gate(
        limits={"flows": ONCE, "deny": {"networks": ["198.51.100.0/24"]}}, server=BEHIND_PROXY
    )
    for _ in range(2):
        answer = await gate.get("/flows", headers={"X-Forwarded-For": "198.51.100.7"})
        await problem(answer, 403, "client-denied")
        assert "RateLimit" not in answer.headers
        assert "Retry-After" not in answer.headers
    assert await statuses(gate, "/flows", 1, X_Forwarded_For="203.0.113.1") == [200]


async def test_allowed_clients_are_not_counted(open_gate: OpenGate) -> None:
    gate = await open_gate(
        limits={"flows": ONCE, "allow": {"networks": ["198.51.100.0/24"]}}, server=BEHIND_PROXY
    )
    assert await statuses(gate, "/flows", 3, X_Forwarded_For="198.51.100.7") == [200] * 3
    answer = await gate.get("/flows", headers={"X-Forwarded-For": "198.51.100.7"})
    assert "RateLimit" not in answer.headers


async def test_a_fleet_wide_limit_counts_all_clients_together(open_gate: OpenGate) -> None:
    shared = {"rate": "2/hour", "scope": "fleet", "routes": ["flows"]}
    gate = await open_gate(limits={"everyone": shared}, server=BEHIND_PROXY)
    seen = [
        (await statuses(gate, "/flows", 1, X_Forwarded_For=f"198.51.100.{i}"))[0] for i in range(3)
    ]
    assert seen == [200, 200, 429]
    answer = await gate.get("/flows", headers={"X-Forwarded-For": "198.51.100.9"})
    body = await answer.json(content_type=None)
    assert body["violated-policies"] == ["everyone"]
    assert '"everyone";r=0;' in answer.headers["RateLimit"]


async def test_published_limits_hold_without_a_restart(open_gate: OpenGate) -> None:
    gate = await open_gate(limits={"flows": ONCE}, admin=ADMIN)
    assert await statuses(gate, "/flows", 2, X_API_Key=KEY) == [200, 429]
    wanted: dict[str, Any] = {"flows": {"rate": "100/minute"}, **SOLD}
    rules = gate.app[keys.RULES]
    assert isinstance(rules._published, PublishedLimits)
    document = limits_document(LimitSettings.model_validate(wanted))
    await rules._published.publish(document, author="test")
    async with asyncio.timeout(20):
        while await statuses(gate, "/flows", 1, X_API_Key=KEY) != [200]:
            await asyncio.sleep(0.05)
    answer = await gate.get("/flows", headers={"X-API-Key": KEY})
    assert answer.headers["RateLimit-Policy"] == '"flows";q=3;w=3600'


def test_by_default_nobody_is_listed_and_no_key_is_known() -> None:
    limits = Settings().limits
    assert not limits.further
    assert not limits.keys
    assert limits == LimitSettings()
