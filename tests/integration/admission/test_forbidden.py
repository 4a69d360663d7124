"""A login that may not do what the limits need: as if Redis were away, said once, until it may."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import redis
from structlog.testing import capture_logs

from service.admission import settlement
from service.admission.limiter import Limiter
from service.admission.models import Charge, Policy, Subject
from service.store.client import Store
from tests.support.redises import MAKES, MadeServer
from tests.support.servers import scratch_directory

OpenStore = Callable[..., Awaitable[Store]]
CHARGE = Charge(Policy("quick", tokens=100, period_s=1, burst=100), Subject("client", "ip:1"))
PATIENCE_S = 20.0
#: Many more than it takes to find out.
CALLS = 300


@pytest.fixture(scope="module", params=MAKES)
def admin(request: pytest.FixtureRequest) -> Iterator[Any]:
    with ExitStack() as stack:
        home = stack.enter_context(scratch_directory())
        server = stack.enter_context(MadeServer(home, request.param))
        yield redis.Redis(port=server.port)


@pytest.fixture
async def store(open_store: OpenStore, admin: Any) -> Store:
    allow(admin, "reset", "on", ">secret", "~*", "&*", "+@all")
    admin.script_flush()
    port = admin.connection_pool.connection_kwargs["port"]
    return await open_store(f"redis://tollgate:secret@127.0.0.1:{port}/0", timeout=2.0)


@pytest.fixture
async def limiter(store: Store, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Limiter]:
    monkeypatch.setattr(settlement, "SETTLING_S", 0.1)
    monkeypatch.setattr(settlement, "ASK_AGAIN_S", 0.05)
    made = Limiter(store, workers_hint=1)
    await made.start()
    yield made
    await made.stop()


def allow(admin: Any, *rules: str) -> None:
    admin.execute_command("ACL", "SETUSER", "tollgate", *rules)


@pytest.mark.parametrize(
    ("taken", "given"),
    [
        (("-evalsha",), ("+evalsha",)),
        (("resetkeys", "~cb:*"), ("allkeys",)),
        (("-set",), ("+set",)),
        (("-time",), ("+time",)),
        (("-script|load",), ("+script|load",)),
    ],
)
async def test_limits_go_on_by_shares_until_the_login_may_again(
    limiter: Limiter, admin: Any, taken: tuple[str, ...], given: tuple[str, ...]
) -> None:
    assert not (await limiter.take((CHARGE,))).degraded
    allow(admin, *taken)
    if "-script|load" in taken:
        admin.script_flush()
    with capture_logs() as logs:
        async with asyncio.timeout(PATIENCE_S):
            while limiter.status().mode != "away":
                await limiter.take((CHARGE,))
            # Nothing is owed at times, and still it is not back: it looks whether it may.
            for _ in range(CALLS):
                assert (await limiter.take((CHARGE,))).degraded
                await asyncio.sleep(0.001)
    assert limiter.status().mode == "away"
    assert [entry["event"] for entry in logs].count("limiter_degraded") == 1
    refusals = [entry for entry in logs if entry["event"] == "limiter_refused"]
    assert len(refusals) == 1, refusals
    allow(admin, *given)
    async with asyncio.timeout(PATIENCE_S):
        while limiter.degraded:
            await asyncio.sleep(0.02)
    assert not (await limiter.take((CHARGE,))).degraded


async def test_who_refuses_one_command_and_takes_the_next_is_complained_of_once_and_not_away(
    store: Store, admin: Any
) -> None:
    allow(admin, "-get")
    with capture_logs() as logs:
        for _ in range(20):
            with pytest.raises(Exception, match="refused"):
                await store.run(lambda: store.client.get("anything"))
            await store.run(store.client.ping)
            assert not store.away
    assert [(entry["event"], entry["times"]) for entry in logs] == [("store_refused", 1)]
