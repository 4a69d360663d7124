"""A client that leaves while its job is started, at each step, in both ways aiohttp treats it.

The job loops do not turn here: what is right afterwards was made right by the request itself.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, closing, contextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
import psycopg2
import pytest
from aiohttp import web

from scripts.sandbox.faults import Fault
from scripts.sandbox.keys import Sandbox
from service.api import keys
from service.app import create_app
from service.jobs import lifecycle
from tests.support.gate import ROOMY
from tests.support.house import API_KEY, IDENTIFIER, TEXT, flow_definition, house_settings
from tests.support.postgres import ask
from tests.support.sandbox import running_sandbox
from tests.support.waiting import until

CREATE = "POST /payment"
BODY = json.dumps({"identifier_from_purchaser": IDENTIFIER, "input_data": {"text": TEXT}}).encode()
#: Time limits as they should be to each other, all of them short.
SHORT: dict[str, dict[str, Any]] = {
    "server": {"role": "web", "request_timeout": 3.0},
    "redis": {"timeout": 1.0, "limiter_timeout": 1.0},
    "database": {
        "acquire_timeout": 2.0,
        "connect_timeout": 2.0,
        "quick_timeout": 2.0,
        "write_timeout": 2.0,
    },
    "payment": {"call_timeout": 2.0, "attempt_timeout": 1.5, "connect_timeout": 1.0},
}


@dataclass(slots=True)
class Shop:
    """The public application on a socket, as production serves it."""

    port: int
    sandbox: Sandbox
    database_url: str
    app: web.Application

    async def send(self) -> asyncio.StreamWriter:
        """start_job, sent off; the answer is not waited for."""
        _, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(
            b"POST /echo/start_job HTTP/1.1\r\nHost: tollgate\r\nIdempotency-Key: k\r\n"
            b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(BODY), BODY)
        )
        await writer.drain()
        return writer

    async def start(self) -> tuple[int, dict[str, Any], Any]:
        """start_job by a client that stays."""
        async with (
            aiohttp.ClientSession() as session,
            session.post(
                f"http://127.0.0.1:{self.port}/echo/start_job",
                data=BODY,
                headers={"Content-Type": "application/json", "Idempotency-Key": "k"},
            ) as answer,
        ):
            return answer.status, await answer.json(content_type=None), answer.headers

    def slow(self, when: str, seconds: float = 0.4) -> None:
        self.sandbox.faults.add(
            Fault(kind="latency", route=CREATE, when=when, seconds=seconds, times=1)  # type: ignore[arg-type]
        )

    @contextmanager
    def unwritable(self, table: str) -> Iterator[None]:
        """Whoever wants to write there waits until the block ends."""
        with closing(psycopg2.connect(self.database_url)) as lock:
            lock.cursor().execute(f"LOCK TABLE {table} IN EXCLUSIVE MODE")
            yield

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        return ask(self.database_url, statement)

    def someone_waits(self) -> bool:
        return bool(self.query("SELECT 1 FROM pg_locks WHERE NOT granted"))

    async def until_started(self) -> str:
        """The only job, once it has its payment."""
        await until(
            lambda: self.query("SELECT state FROM jobs") == [("awaiting_payment",)],
        )
        [(job_id,)] = self.query("SELECT id::text FROM jobs")
        return str(job_id)


MakeShop = Callable[..., Awaitable[Shop]]


@pytest.fixture
async def make_shop(database_url: str, redis_url: str) -> AsyncIterator[MakeShop]:
    async with AsyncExitStack() as stack:

        async def make(*, cancelling: bool, **sections: dict[str, Any]) -> Shop:
            sandbox = await stack.enter_async_context(running_sandbox(api_key=API_KEY))
            given = {"server": {"role": "web"}, "limits": ROOMY, **sections}
            app = await create_app(house_settings(database_url, redis_url, sandbox.url, **given))
            runner = web.AppRunner(
                app, access_log=None, handler_cancellation=cancelling, shutdown_timeout=5.0
            )
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            await app[keys.CATALOG].store((flow_definition(),))
            return Shop(runner.addresses[0][1], sandbox.sandbox, database_url, app)

        yield make


async def leave(writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()
    await asyncio.sleep(0.05)  # the server is told of it by its own loop, which is this one


async def consistent(shop: Shop) -> None:
    """One job, one payment, found by the request itself; the same request again gets it."""
    job_id = await shop.until_started()
    causes = shop.query("SELECT cause FROM job_events ORDER BY seq")
    assert causes == [("start-intended",), ("payment-requested",)]
    assert [r.terms.metadata for r in shop.sandbox.ledger.oldest()] == [job_id]
    status, again, headers = await shop.start()
    assert (status, again["id"]) == (200, job_id)
    assert headers["Idempotent-Replayed"] == "true"


both_modes = pytest.mark.parametrize("cancelling", [True, False])


@both_modes
async def test_client_leaves_before_the_intent_is_written(
    make_shop: MakeShop, cancelling: bool
) -> None:
    shop = await make_shop(cancelling=cancelling)
    with shop.unwritable("idempotency_keys"):
        writer = await shop.send()
        await until(shop.someone_waits)
        await leave(writer)
    await consistent(shop)


@both_modes
@pytest.mark.parametrize("when", ["before", "after"])
async def test_client_leaves_during_the_payment_call(
    make_shop: MakeShop, cancelling: bool, when: str
) -> None:
    shop = await make_shop(cancelling=cancelling)
    shop.slow(when)
    writer = await shop.send()
    await until(lambda: shop.sandbox.calls[CREATE] == 1)
    if when == "after":
        await until(lambda: len(shop.sandbox.ledger) == 1)
    await leave(writer)
    await consistent(shop)


@both_modes
async def test_client_leaves_while_its_payment_is_written_down(
    make_shop: MakeShop, cancelling: bool
) -> None:
    shop = await make_shop(cancelling=cancelling)
    shop.slow("after")
    writer = await shop.send()
    await until(lambda: len(shop.sandbox.ledger) == 1)
    with shop.unwritable("jobs"):
        await until(shop.someone_waits)
        await leave(writer)
    await consistent(shop)


@both_modes
async def test_deadline_passes_while_the_payment_is_written_down(
    make_shop: MakeShop, cancelling: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client is told 504 in its time; the payment is attached all the same, at once."""
    monkeypatch.setattr(lifecycle, "ANSWER_S", 60.0)  # its deadline comes first
    # No payment is begun in the last two seconds; a busy machine needs some before them.
    shorter = {**SHORT, "server": {"role": "web", "request_timeout": 5.1}}
    shop = await make_shop(cancelling=cancelling, **shorter)
    shop.slow("after")
    starting = asyncio.create_task(shop.start())
    await until(lambda: len(shop.sandbox.ledger) == 1)
    with shop.unwritable("jobs"):
        status, problem, _ = await starting
        assert (status, problem["type"]) == (504, "urn:tollgate:problem:deadline-exceeded")
    await consistent(shop)


async def test_client_is_answered_long_before_its_deadline_though_nothing_can_be_written(
    make_shop: MakeShop,
) -> None:
    """PostgreSQL has gone between the payment and its record: that takes what it takes, alone."""
    shop = await make_shop(cancelling=False)
    shop.slow("after")
    starting = asyncio.create_task(shop.start())
    await until(lambda: len(shop.sandbox.ledger) == 1)
    with shop.unwritable("jobs"):
        status, problem, _ = await asyncio.wait_for(starting, 15)
        assert (status, problem["type"]) == (504, "urn:tollgate:problem:payment-outcome-unknown")
    await shop.until_started()
    await consistent(shop)


async def test_lost_connection_does_not_lose_the_payment(make_shop: MakeShop) -> None:
    shop = await make_shop(cancelling=False)
    shop.slow("after")
    starting = asyncio.create_task(shop.start())
    await until(lambda: len(shop.sandbox.ledger) == 1)
    with shop.unwritable("jobs"):
        await until(shop.someone_waits)
        shop.query("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE NOT granted")
    status, started, _ = await starting
    assert status == 200
    assert started["id"] == await shop.until_started()
    await consistent(shop)


async def test_worker_that_closes_waits_for_what_clients_left_behind(
    make_shop: MakeShop,
) -> None:
    shop = await make_shop(cancelling=True)
    shop.slow("before", seconds=1.0)
    writer = await shop.send()
    await until(lambda: shop.sandbox.calls[CREATE] == 1)
    await leave(writer)
    await shop.app.cleanup()
    assert shop.query("SELECT state FROM jobs") == [("awaiting_payment",)]
