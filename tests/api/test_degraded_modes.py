"""Each degraded mode, produced for real and told by /health and /health/detailed as described."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import psycopg2
import pytest
import redis

from scripts.faultproxy import FaultProxy
from scripts.postgres import EmbeddedPostgres
from scripts.valkey import EmbeddedValkey
from service import checks
from service import health as health_module
from service.api import keys
from service.api.health_shapes import RedisView
from service.health import Health, Mode
from service.overload import overload as overload_module
from service.overload.models import Priority
from tests.support.gate import TEXT, Gate, OpenGate
from tests.support.servers import execute, migrate

DOCS = Path(__file__).parents[2] / "docs" / "api.md"
#: Asked again and again, of a worker that has only its share left.
UNLIMITED = {
    name: {"rate": "100000/minute", "on_outage": "open"} for name in ("health", "health_detailed")
}
PURCHASE = {"input_data": {"text": TEXT}}


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks are as in the service, only twenty times as often."""
    monkeypatch.setattr(checks, "Health", partial(Health, period_s=0.1))


async def modes_of(gate: Gate) -> set[str]:
    """Told now; that the answer keeps its promised shape is checked by ``gate.get``."""
    answer = await gate.get("/health/detailed")
    assert answer.status == 200
    told = await answer.json()
    seen = gate.app[keys.HEALTH].snapshot().components
    assert set(told["components"]) == set(seen)
    for name, component in told["components"].items():
        assert set(component["detail"]) <= set(seen[name].detail)
        assert ("mode" in component) == (component["state"] != "ok")
    assert set(told["modes"]) == {c["mode"] for c in told["components"].values() if "mode" in c}
    assert told["status"] == ("degraded" if told["modes"] else "ok")
    return set(told["modes"])


async def comes(gate: Gate, *modes: Mode) -> None:
    """It is in exactly these modes before long; its probes are well in all of them."""
    last: set[str] = set()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(20):
            while (last := await modes_of(gate)) != set(modes):
                await asyncio.sleep(0.05)
    assert last == set(modes)
    assert (await gate.get("/livez")).status == 200
    assert (await gate.get("/readyz")).status == 200
    async with asyncio.timeout(10):  # rendered at most once a second
        while (await (await gate.get("/health")).json())["status"] != (
            "degraded" if modes else "ok"
        ):
            await asyncio.sleep(0.05)


class TestModes:
    async def test_none(self, gate: Gate) -> None:
        await comes(gate)
        told = await (await gate.get("/health/detailed")).json()
        assert told["workers"] >= 1
        # All that is found out is shown: a member missing in the shapes would be left out.
        for name, found in gate.app[keys.HEALTH].snapshot().components.items():
            known = {key for key, value in found.detail.items() if value is not None}
            assert set(told["components"][name]["detail"]) == known

    async def test_redis_away(
        self, open_gate: OpenGate, private_valkey: Callable[[], EmbeddedValkey]
    ) -> None:
        valkey = private_valkey()
        gate = await open_gate(redis_url=valkey.url, limits=UNLIMITED)
        await comes(gate)
        valkey.stop()
        await comes(gate, Mode.REDIS_AWAY, Mode.LIMITS_LOCAL)
        valkey.start()
        await comes(gate)

    async def test_redis_refusing(
        self, open_gate: OpenGate, private_valkey: Callable[[], EmbeddedValkey]
    ) -> None:
        valkey = private_valkey()
        gate = await open_gate(redis_url=valkey.url, limits=UNLIMITED)
        with contextlib.closing(redis.Redis.from_url(valkey.url)) as client:
            client.acl_setuser("default", enabled=True, categories=["-@scripting"])
            assert client.ping()
            await comes(gate, Mode.REDIS_REFUSING)
            client.acl_setuser("default", enabled=True, categories=["+@scripting"])
            await comes(gate)
            # Scripts are forgotten in a failover: loaded again, and no word about it.
            client.script_flush()
            await asyncio.sleep(0.3)  # time enough to notice it, were it one
            assert await modes_of(gate) == set()

    async def test_redis_that_takes_no_writes_is_refusing(
        self, open_gate: OpenGate, private_valkey: Callable[[], EmbeddedValkey]
    ) -> None:
        valkey = private_valkey()
        gate = await open_gate(redis_url=valkey.url, limits=UNLIMITED)
        with contextlib.closing(redis.Redis.from_url(valkey.url)) as client:
            client.config_set("maxmemory", 1)
            async with asyncio.timeout(20):
                while Mode.REDIS_REFUSING not in await modes_of(gate):
                    await asyncio.sleep(0.05)
            client.config_set("maxmemory", 0)
        await comes(gate)

    async def test_postgres_away(
        self, open_gate: OpenGate, private_postgres: Callable[..., EmbeddedPostgres]
    ) -> None:
        postgres = private_postgres()
        migrate(postgres.url)
        gate = await open_gate(database_url=postgres.url)
        await comes(gate)
        postgres.stop()
        await comes(gate, Mode.POSTGRES_AWAY)
        told = await (await gate.get("/health/detailed")).json()
        assert told["components"]["postgres"]["detail"]["pool_maximum"] >= 1

    async def test_postgres_busy(self, open_gate: OpenGate) -> None:
        gate = await open_gate(database={"pool_min": 1, "pool_max": 2, "reserve": 0})
        await comes(gate)
        with contextlib.closing(psycopg2.connect(gate.database_url)) as connection:
            with connection.cursor() as cursor:
                cursor.execute("LOCK TABLE jobs IN ACCESS EXCLUSIVE MODE")
            buying = [
                asyncio.create_task(gate.post("/text-summary+free/start_job", PURCHASE))
                for _ in range(8)
            ]
            await comes(gate, Mode.POSTGRES_BUSY)
        await asyncio.gather(*buying)
        await comes(gate)

    async def test_postgres_read_only(self, open_gate: OpenGate) -> None:
        gate = await open_gate()
        url = gate.database_url
        name = url.rpartition("/")[2].partition("?")[0]
        execute(url, f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
        execute(
            url,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()",
        )
        async with asyncio.timeout(20):
            while Mode.POSTGRES_READ_ONLY not in await modes_of(gate):
                await gate.post("/text-summary+free/start_job", PURCHASE)
        await comes(gate, Mode.POSTGRES_READ_ONLY)

    async def test_changes_unheard(
        self, open_gate: OpenGate, private_valkey: Callable[[], EmbeddedValkey], database_url: str
    ) -> None:
        valkey = private_valkey()
        async with FaultProxy.before(database_url) as proxy:
            gate = await open_gate(
                redis_url=valkey.url, database_url=database_url, database={"listen_url": proxy.url}
            )
            await comes(gate)
            with contextlib.closing(redis.Redis.from_url(valkey.url)) as client:
                client.acl_setuser("default", enabled=True, reset_channels=True)
                client.client_kill_filter(_type="pubsub")
                await proxy.refuse()
                await comes(gate, Mode.CHANGES_UNHEARD)
                client.acl_setuser("default", enabled=True, channels=["*"])
                await comes(gate)

    async def test_payment_open(self, gate: Gate) -> None:
        breaker = gate.app[keys.BREAKER]
        await breaker.force("open", 60, by="a test", reason="to see it told")
        await comes(gate, Mode.PAYMENT_OPEN)
        told = await (await gate.get("/health/detailed")).json()
        assert told["breaker"] == "open"
        assert told["components"]["payment"]["detail"]["forced"] is True
        await breaker.reset(by="a test", reason="seen")
        await comes(gate)

    async def test_payment_key_unusable(self, open_gate: OpenGate) -> None:
        gate = await open_gate(payment={"api_key": "nobodys"})
        await comes(gate, Mode.PAYMENT_KEY_UNUSABLE)

    async def test_overloaded(self, open_gate: OpenGate, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(overload_module, "QUIET_S", 1.0)
        # Any wait is too long here, and two requests at once give cause for a limit.
        load = {"queue_delay": 1e-6, "least_requests": 1}
        gate = await open_gate(limits=UNLIMITED, overload=load)
        await comes(gate)
        overload = gate.app[keys.OVERLOAD]
        in_hand = [overload.enter(Priority.READ, "ip:192.0.2.1") for _ in range(20)]
        async with asyncio.timeout(10):
            while (await gate.get("/flows")).status != 503:
                await asyncio.sleep(0.01)
        for _ in in_hand:
            overload.leave(Priority.READ)
        await comes(gate, Mode.OVERLOADED)
        await comes(gate)

    async def test_unchecked(self, gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
        await comes(gate)
        await gate.app[keys.HEALTH].stop()
        monkeypatch.setattr(health_module, "STALE_PERIODS", 0)
        await comes(gate, Mode.UNCHECKED)


def test_every_mode_is_produced_here_and_documented() -> None:
    """``test_<mode>`` each; LIMITS_LOCAL comes with Redis's being away."""
    produced = {name.removeprefix("test_") for name in vars(TestModes) if name.startswith("test_")}
    assert set(Mode) - produced == {Mode.LIMITS_LOCAL}
    told = DOCS.read_text(encoding="utf-8").partition("Degraded modes")[2]
    documented = re.findall(r"^\| `(\w+)` \| ", told, re.MULTILINE)
    assert set(Mode) <= set(documented)


def test_a_mode_nobody_knows_is_refused_by_the_shapes() -> None:
    detail: dict[str, Any] = {"state": "degraded", "mode": "moon_full", "detail": {}}
    with pytest.raises(ValueError, match="mode"):
        RedisView.model_validate(detail)
