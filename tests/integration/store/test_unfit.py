"""A server that is there and cannot serve counts as away, and nothing that it refused has run."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import redis

from service.admission import settlement
from service.admission.limiter import Limiter
from service.admission.models import Charge, Policy, Subject
from service.store.client import Store
from service.store.line import pack
from service.store.refusals import is_unfit
from tests.support.redises import MAKES, MadeServer
from tests.support.servers import scratch_directory
from tests.support.waiting import eventually

OpenStore = Callable[..., Awaitable[Store]]
CHARGE = Charge(Policy("slow", tokens=100, period_s=1, burst=100), Subject("client", "ip:1"))
PATIENCE_S = 20.0


@pytest.fixture(scope="module", params=MAKES)
def server(request: pytest.FixtureRequest) -> Iterator[MadeServer]:
    with ExitStack() as stack:
        home = stack.enter_context(scratch_directory())
        yield stack.enter_context(
            MadeServer(home, request.param, "--enable-debug-command", "local")
        )


@pytest.fixture
async def limiter(
    open_store: OpenStore, server: MadeServer, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Limiter]:
    monkeypatch.setattr(settlement, "SETTLING_S", 0.1)
    monkeypatch.setattr(settlement, "ASK_AGAIN_S", 0.1)
    made = Limiter(await open_store(server.url, timeout=0.5), workers_hint=1)
    await made.start()
    yield made
    await made.stop()


def _replica(admin: Any) -> None:
    admin.replicaof("127.0.0.1", 1)


def _primary(admin: Any) -> None:
    admin.replicaof("NO", "ONE")
    admin.config_set("replica-serve-stale-data", "yes")


def _silent_replica(admin: Any) -> None:
    admin.config_set("replica-serve-stale-data", "no")
    _replica(admin)


def _alone(admin: Any) -> None:
    admin.config_set("min-replicas-to-write", 1)


def _accompanied(admin: Any) -> None:
    admin.config_set("min-replicas-to-write", 0)


def _full(admin: Any) -> None:
    admin.config_set("maxmemory", 1)


def _roomy(admin: Any) -> None:
    admin.config_set("maxmemory", 0)


@pytest.mark.parametrize(
    ("word", "asked", "spoil", "mend"),
    [
        ("READONLY", ("SET", "n", "1"), _replica, _primary),
        ("MASTERDOWN", ("GET", "n"), _silent_replica, _primary),
        ("NOREPLICAS", ("SET", "n", "1"), _alone, _accompanied),
        ("OOM", ("SET", "n", "1"), _full, _roomy),
    ],
)
async def test_the_limits_go_on_by_shares_until_the_server_serves_again(
    limiter: Limiter,
    open_store: OpenStore,
    server: MadeServer,
    word: str,
    asked: tuple[str, ...],
    spoil: Callable[[Any], None],
    mend: Callable[[Any], None],
) -> None:
    admin = redis.Redis(port=server.port)
    store = await open_store(server.url, timeout=0.5)
    line = store.line(store.nodes()[0])
    assert not (await limiter.take((CHARGE,))).degraded
    spoil(admin)
    try:
        (refusal,) = await line.exchange([pack(*asked)])
        assert is_unfit(refusal)
        assert word in f"{type(refusal).__name__} {refusal}".upper().replace("OUTOFMEMORY", "OOM")
        async with asyncio.timeout(PATIENCE_S):
            while limiter.status().mode != "away":
                await limiter.take((CHARGE,))
        # Not for ever denied: the share gives.
        async with asyncio.timeout(PATIENCE_S):
            while not (await limiter.take((CHARGE,))).allowed:
                await asyncio.sleep(0.01)
    finally:
        mend(admin)
    async with asyncio.timeout(PATIENCE_S):
        while limiter.degraded:
            await asyncio.sleep(0.02)
    assert not (await limiter.take((CHARGE,))).degraded


async def test_a_server_that_loads_its_data_answers_so_and_is_asked_again(
    open_store: OpenStore, server: MadeServer
) -> None:
    admin: Any = redis.Redis(port=server.port)
    store = await open_store(server.url, timeout=2.0)
    line = store.line(store.nodes()[0])
    assert await line.exchange([pack("PING")]) == [b"PONG"]
    admin.execute_command("DEBUG", "POPULATE", 2000)
    admin.config_set("key-load-delay", 1000)
    admin.config_set("loading-process-events-interval-bytes", 1024)
    loading = asyncio.create_task(asyncio.to_thread(admin.execute_command, "DEBUG", "RELOAD"))
    refused = 0
    while not loading.done():
        first, second = await line.exchange([pack("INCR", "n"), pack("PING")])
        refused += is_unfit(first) and is_unfit(second)
        await asyncio.sleep(0.01)
    await loading
    assert refused
    assert repr(line) == "<Line open>"
    eventually(admin.ping)
    admin.flushall()


async def test_a_busy_server_is_no_place_to_wait(open_store: OpenStore, server: MadeServer) -> None:
    admin: Any = redis.Redis(port=server.port)
    store = await open_store(server.url, timeout=2.0)
    line = store.line(store.nodes()[0])
    await line.exchange([pack("PING")])
    admin.config_set("busy-reply-threshold", 20)
    running = asyncio.create_task(
        asyncio.to_thread(redis.Redis(port=server.port).eval, "while true do end", 0)
    )
    try:
        async with asyncio.timeout(PATIENCE_S):
            while not is_unfit((await line.exchange([pack("INCR", "n")]))[0]):
                await asyncio.sleep(0.01)
    finally:
        admin.script_kill()
        await asyncio.gather(running, return_exceptions=True)
