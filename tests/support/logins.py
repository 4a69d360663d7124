"""A login with the least rights, as docs/redis.md says them, and all that it must be enough for."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import redis

from service.admission.limiter import Limiter
from service.admission.models import Charge, Policy, Subject
from service.admission.published import PublishedLimits
from service.breaker.breaker import Breaker
from service.fleet.board import Board
from service.settings import BreakerSettings
from service.store import keys
from service.store.client import Store
from tests.support.ear import Ear
from tests.support.scripts import call_every_script

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "redis.md"
CHARGE = Charge(Policy("slow", tokens=9, period_s=86_400, burst=9), Subject("client", "ip:1"))
CHANNEL, POSITION = keys.cache_channel("flow"), keys.cache_position("flow")


def documented(pattern: str) -> list[str]:
    """Words of an ACL rule, as the page says them."""
    found = re.search(pattern, DOCUMENT.read_text(), re.DOTALL)
    assert found
    return found[1].split()


LEAST = documented(r"ACL SETUSER tollgate (.+?)\n")
IN_CLUSTER = documented(r"A cluster needs `(.+?)`")
BEHIND_SENTINEL = documented(r"servers behind Sentinel `(.+?)`")
AT_SENTINELS = documented(r"sentinels themselves `(.+?)`")


def allow(port: int, *rules: str) -> Any:
    admin: Any = redis.Redis(port=port)
    admin.execute_command("ACL", "LOG", "RESET")
    admin.execute_command("ACL", "SETUSER", "tollgate", "reset", *rules)
    return admin


async def everything(store: Store) -> None:
    """All that a worker asks of Redis; what is not allowed raises."""
    await store.run(lambda: store.client.delete(POSITION))
    await store.ping()
    await store.probe()
    await call_every_script(store)
    ear = Ear(CHANNEL)
    subscription = store.subscription(CHANNEL, ear.heard.append, gap=ear.gap)
    await subscription.start()
    limiter = Limiter(store, workers_hint=1)
    await limiter.start()
    breaker = Breaker("payment", BreakerSettings(), store)
    try:
        await ear.until("gap")
        assert not (await limiter.take((CHARGE,))).degraded
        await limiter.reset(CHARGE.policy, CHARGE.subject)
        await breaker.force("open", seconds=1, by="me", reason="test")
        assert await breaker.history()
        published = PublishedLimits(store)
        await published.publish("{}", author="me")
        assert await published.read()
        await published.note("reset", "it", author="me")
        assert await published.changes(2)
        assert await Board(store).samples() == ()
        client = store.client
        assert await store.run(lambda: client.set(POSITION, "1", nx=True, px=1000))
        assert await store.run(lambda: client.get(POSITION)) == b"1"
    finally:
        await breaker.close()
        await limiter.stop()
        await subscription.stop()
