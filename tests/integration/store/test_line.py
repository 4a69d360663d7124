"""One connection for packed commands: in order, never twice, never out of step."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from redis.exceptions import ResponseError

from scripts.devservers import EmbeddedValkey
from service.errors import StoreUnavailable
from service.store.client import Store
from service.store.line import Line, pack

OpenStore = Callable[..., Awaitable[Store]]


def line_of(store: Store) -> Line:
    return store.line(store.nodes()[0])


def counts(number: int) -> list[bytes]:
    return [pack("INCR", "n")] * number


@pytest.fixture
def line(store: Store) -> Line:
    return line_of(store)


def test_a_command_is_packed_as_the_protocol_wants_it() -> None:
    assert (
        pack("SET", "ä", 12, b"\x00")
        == b"*4\r\n$3\r\nSET\r\n$2\r\n\xc3\xa4\r\n$2\r\n12\r\n$1\r\n\x00\r\n"
    )


async def test_replies_come_in_order_and_an_error_is_one_of_them(line: Line) -> None:
    replies = await line.exchange([pack("INCR", "n"), pack("HGET", "n", "x"), pack("INCR", "n")])
    assert replies[::2] == [1, 2]
    assert isinstance(replies[1], ResponseError)
    assert repr(line) == "<Line open>"


async def test_exchanges_at_the_same_time_wait_for_each_other(line: Line) -> None:
    replies = await asyncio.gather(*(line.exchange(counts(3)) for _ in range(10)))
    assert sorted(number for reply in replies for number in reply) == list(range(1, 31))
    assert all(reply == list(range(reply[0], reply[0] + 3)) for reply in replies)


async def test_a_cancelled_exchange_leaves_no_reply_for_the_next(line: Line) -> None:
    await line.exchange([pack("SET", "a", "1"), pack("SET", "b", "2")])
    for _ in range(20):
        exchange = asyncio.create_task(line.exchange([pack("GET", "a")]))
        await asyncio.sleep(0)
        exchange.cancel()
        await asyncio.gather(exchange, return_exceptions=True)
        assert await line.exchange([pack("GET", "b")]) == [b"2"]


async def test_a_lost_exchange_has_run_at_most_once(
    open_store: OpenStore, private_valkey: Callable[[], EmbeddedValkey]
) -> None:
    server = private_valkey()
    line = line_of(await open_store(server.url, timeout=1.0))
    assert await line.exchange(counts(1)) == [1]
    server.suspend()
    assert await line.exchange(counts(2)) == [None, None]
    server.resume()
    (after,) = await line.exchange(counts(1))
    assert after in (2, 4)


async def test_a_busy_loop_does_not_lose_replies_that_are_there(
    open_store: OpenStore, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = line_of(await open_store(redis_url, timeout=0.25))
    await line.exchange(counts(1))
    connection = line._connection
    assert connection is not None
    send = connection.send_packed_command

    async def sent_and_then_busy(*args: Any, **options: Any) -> None:
        await send(*args, **options)
        # The loop is away from before the reply until after the deadline.
        time.sleep(1.0)  # noqa: ASYNC251 - to be busy is what it is for

    monkeypatch.setattr(connection, "send_packed_command", sent_and_then_busy)
    assert None not in await line.exchange(counts(20))


async def test_a_server_restarted_meanwhile_is_not_asked_on_the_dead_connection(
    open_store: OpenStore, private_valkey: Callable[[], EmbeddedValkey]
) -> None:
    server = private_valkey()
    line = line_of(await open_store(server.url, timeout=2.0))
    await line.exchange(counts(1))
    server.restart()
    await asyncio.sleep(0.05)
    assert await line.exchange(counts(1)) == [1]


async def test_where_nothing_listens_nothing_was_sent(open_store: OpenStore) -> None:
    store = await open_store("redis://127.0.0.1:1/0")
    with pytest.raises(StoreUnavailable):
        await line_of(store).exchange(counts(1))
    assert store.away
