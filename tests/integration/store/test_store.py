"""The store against a real server: one that answers, forgets, hangs, dies and comes back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from scripts.devservers import EmbeddedValkey
from service.deadline import CURRENT, Deadline
from service.errors import DeadlineExceeded, StoreUnavailable
from service.settings import RedisSettings
from service.store.client import Store
from service.store.scripts import Script

COUNT = "return redis.call('INCR', KEYS[1])"
OpenStore = Callable[..., Awaitable[Store]]


@pytest.fixture
async def silent_url() -> AsyncIterator[str]:
    """A server that accepts and never says a word."""
    connected: list[asyncio.StreamWriter] = []

    async def accept(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connected.append(writer)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    yield f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0"
    server.close()
    for writer in connected:
        writer.close()


async def test_script_survives_that_the_server_forgets_it(store: Store) -> None:
    count = Script(store, "count", COUNT, keys=1)
    assert await count(["n"], []) == 1
    await store.run(store.client.script_flush)
    assert await count(["n"], []) == 2


async def test_script_refuses_another_number_of_keys_than_its_own(store: Store) -> None:
    with pytest.raises(ValueError, match="takes 1 keys, not 2"):
        await Script(store, "count", COUNT, keys=1)(["a", "b"], [])


async def test_a_lost_reply_is_never_sent_again(
    open_store: OpenStore, private_valkey: Callable[[], EmbeddedValkey]
) -> None:
    server = private_valkey()
    store = await open_store(server.url, timeout=0.3)
    count = Script(store, "count", COUNT, keys=1)
    assert await count(["n"], []) == 1
    server.suspend()
    with pytest.raises(StoreUnavailable):
        await count(["n"], [])
    server.resume()
    # The suspended server did read the lost call: it has run, once.
    assert await count(["n"], []) == 3


async def test_an_error_of_the_script_is_a_refusal_with_its_cause(store: Store) -> None:
    broken = Script(store, "broken", "return redis.call('LPUSH', KEYS[1])", keys=1)
    with pytest.raises(StoreUnavailable, match="refused") as caught:
        await broken(["n"], [])
    assert caught.value.__cause__ is not None


async def test_a_silent_server_costs_the_time_out_a_few_times_then_nothing(
    silent_url: str,
) -> None:
    store = Store(RedisSettings(timeout=0.3, connect_timeout=0.3), url=silent_url)
    waits = []
    for _ in range(8):
        begun = time.monotonic()
        with pytest.raises(StoreUnavailable):
            await store.run(store.client.ping)
        waits.append(time.monotonic() - begun)
    assert min(waits[:3]) > 10 * max(waits[3:])
    assert repr(store).endswith(" resting>")
    await store.close()


async def test_the_requests_own_deadline_ends_a_call_and_is_named(silent_url: str) -> None:
    store = Store(RedisSettings(timeout=20, connect_timeout=20), url=silent_url)
    token = CURRENT.set(Deadline.after(0.1))
    try:
        with pytest.raises(DeadlineExceeded):
            await store.run(store.client.ping)
        with pytest.raises(DeadlineExceeded):
            await store.run(store.client.ping)
    finally:
        CURRENT.reset(token)
        await store.close()
    assert not store.away


async def test_cancelled_call_leaves_no_reply_for_the_next_one(store: Store) -> None:
    await store.run(lambda: store.client.set("a", "1"))
    await store.run(lambda: store.client.set("b", "2"))
    for _ in range(20):
        call = asyncio.create_task(store.run(lambda: store.client.get("a")))
        await asyncio.sleep(0)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        assert await store.run(lambda: store.client.get("b")) == b"2"


async def test_more_callers_than_connections_wait_for_one(
    open_store: OpenStore, redis_url: str
) -> None:
    store = await open_store(redis_url, timeout=5.0, max_connections=2)
    replies = await asyncio.gather(*(store.run(lambda: store.client.incr("n")) for _ in range(50)))
    assert sorted(replies) == list(range(1, 51))
    assert len(await store.run(store.client.client_list)) == 2


async def test_a_server_that_comes_later_is_found_without_a_restart(
    open_store: OpenStore, private_valkey: Callable[[], EmbeddedValkey]
) -> None:
    server = private_valkey()
    server.kill()
    store = await open_store(server.url, timeout=2.0)
    assert repr(store).endswith(" away>")
    server.restart()
    await store.ping()
    assert repr(store).endswith(" reachable>")
