"""A worker hears what PostgreSQL tells, through every loss of its one connection."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack

import pytest
from structlog.testing import capture_logs

from scripts.devservers import EmbeddedPostgres
from scripts.faultproxy import FaultProxy
from service.database import listener as listening
from service.database.listener import Listener
from service.errors import ConfigurationError
from service.settings import DatabaseSettings
from tests.support.ear import Ear
from tests.support.postgres import ask
from tests.support.servers import Servers
from tests.support.waiting import until

#: The product's own times, made short.
SHORT = {"QUIET_S": 0.3, "ANSWER_S": 0.7, "LONGEST_PAUSE_S": 0.3}


Listen = Callable[..., Awaitable[Listener]]


@pytest.fixture(scope="module")
def database_url(servers: Servers) -> Iterator[str]:
    """One for all: what was told before is not heard."""
    with servers.cloned_database() as url:
        yield url


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in SHORT.items():
        monkeypatch.setattr(listening, name, seconds)


@pytest.fixture
async def listen(short: None) -> AsyncIterator[Listen]:
    """Starts listeners that are stopped with the test."""
    async with AsyncExitStack() as stack:

        async def make(url: str, *ears: Ear, **settings: float) -> Listener:
            listener = Listener(
                DatabaseSettings(**settings), url=url, application_name="tollgate-listener"
            )
            for ear in ears:
                listener.on(ear.channel, ear.heard.append, gap=ear.gap)
            stack.push_async_callback(listener.stop)
            await listener.start()
            return listener

        yield make


def tell(url: str, channel: str, payload: str) -> None:
    ask(url, f"SELECT pg_notify('{channel}', '{payload}')")


def listeners(url: str) -> int:
    [(count,)] = ask(
        url,
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE application_name = 'tollgate-listener' AND datname = current_database()",
    )
    return int(count)


async def test_every_channel_hears_its_own_in_order_over_one_connection(
    listen: Listen, database_url: str
) -> None:
    flows, jobs = Ear("flows"), Ear('jobs "2"')
    listener = await listen(database_url, flows, jobs)
    await flows.until("gap")
    await jobs.until("gap")
    assert listener.connected
    for number in range(40):
        tell_all = f"SELECT pg_notify('flows', '{number}'), pg_notify('other', 'x')"
        if number % 10 == 0:
            ask(database_url, tell_all + f", pg_notify('jobs \"2\"', 'ü{number}')")
        else:
            ask(database_url, tell_all)
    await flows.until("gap", *(str(number) for number in range(40)))
    await jobs.until("gap", "ü0", "ü10", "ü20", "ü30")
    assert listeners(database_url) == 1


async def test_a_burst_of_large_payloads_is_heard_whole(listen: Listen, database_url: str) -> None:
    ear = Ear("flows")
    await listen(database_url, ear)
    await ear.until("gap")
    ask(
        database_url,
        "SELECT pg_notify('flows', lpad(i::text, 7900, '-')) FROM generate_series(1, 300) i",
    )
    await ear.until("gap", *(str(number).rjust(7900, "-") for number in range(1, 301)))


async def test_a_killed_backend_is_replaced_and_the_gap_is_told(
    listen: Listen, database_url: str
) -> None:
    ear = Ear("flows")
    listener = await listen(database_url, ear)
    await ear.until("gap")
    with capture_logs() as lines:
        ask(
            database_url,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = 'tollgate-listener' AND datname = current_database()",
        )
        await ear.until("gap", "gap")
    assert listener.connected
    tell(database_url, "flows", "after")
    await ear.until("gap", "gap", "after")
    events = [line["event"] for line in lines]
    assert events == ["database_listener_lost", "database_listener_listening"]
    assert "terminat" in lines[0]["error"]


async def test_a_server_that_is_away_is_looked_for_until_it_is_back(
    listen: Listen, private_postgres: Callable[[], EmbeddedPostgres]
) -> None:
    server = private_postgres()
    ear = Ear("flows")
    with capture_logs() as lines:
        listener = await listen(server.url, ear)
        await ear.until("gap")
        server.kill()
        await until(lambda: not listener.connected)
        await asyncio.sleep(2 * SHORT["LONGEST_PAUSE_S"])  # several attempts, one warning
        server.start()
        await ear.until("gap", "gap")
        tell(server.url, "flows", "after")
        await ear.until("gap", "gap", "after")
    assert [line["event"] for line in lines].count("database_listener_lost") == 1
    assert server.url.split(":")[2].split("@")[0] not in str(lines) + repr(listener)


async def test_a_server_that_falls_silent_is_noticed_without_its_help(
    listen: Listen, database_url: str
) -> None:
    async with FaultProxy.before(database_url) as proxy:
        ear = Ear("flows")
        listener = await listen(proxy.url, ear, connect_timeout=1.0)
        await ear.until("gap")
        await proxy.hang()
        began_s = time.monotonic()
        tell(database_url, "flows", "unheard")
        await until(lambda: not listener.connected)
        assert time.monotonic() - began_s < 10 * (SHORT["QUIET_S"] + SHORT["ANSWER_S"])
        await proxy.cut()
        await proxy.forward()
        await ear.until("gap", "gap")
        tell(database_url, "flows", "after")
        await ear.until("gap", "gap", "after")


async def test_a_quiet_channel_stays_connected(listen: Listen, database_url: str) -> None:
    ear = Ear("flows")
    await listen(database_url, ear)
    await ear.until("gap")
    await until(
        lambda: ask(
            database_url,
            "SELECT 1 FROM pg_stat_activity WHERE application_name = 'tollgate-listener'"
            " AND datname = current_database() AND query = 'SELECT 1'",
        )
    )
    tell(database_url, "flows", "late")
    await ear.until("gap", "late")


async def test_cut_connections_refused_ones_and_resets_do_not_end_it(
    listen: Listen, database_url: str
) -> None:
    async with FaultProxy.before(database_url) as proxy:
        ear = Ear("flows")
        await listen(proxy.url, ear)
        await ear.until("gap")
        for fault in (proxy.cut, proxy.reset, proxy.refuse):
            before = len(ear.heard)
            await fault()
            await asyncio.sleep(SHORT["LONGEST_PAUSE_S"])  # it has tried again in vain
            await proxy.forward()
            await ear.until_heard("gap", after=before)
        before = len(ear.heard)
        tell(database_url, "flows", "after")
        await ear.until_heard("after", after=before)


async def test_a_hearer_that_fails_takes_nothing_from_the_others(
    listen: Listen, database_url: str
) -> None:
    def fail(*_: str) -> None:
        raise ZeroDivisionError

    ear = Ear("flows")
    listener = Listener(DatabaseSettings(), url=database_url, application_name="tollgate-listener")
    listener.on("flows", fail, gap=fail)
    listener.on("flows", ear.heard.append, gap=ear.gap)
    with capture_logs() as lines:
        await listener.start()
        try:
            await ear.until("gap")
            tell(database_url, "flows", "a")
            tell(database_url, "flows", "b")
            await ear.until("gap", "a", "b")
        finally:
            await listener.stop()
    assert [line["event"] for line in lines].count("database_listener_hearer_failed") == 3


async def test_stopping_closes_the_connection_also_while_connecting(
    listen: Listen, database_url: str
) -> None:
    ear = Ear("flows")
    listener = await listen(database_url, ear)
    await ear.until("gap")
    with pytest.raises(RuntimeError):
        listener.on("jobs", ear.heard.append, gap=ear.gap)
    await listener.stop()
    await listener.stop()
    assert not listener.connected
    await until(lambda: not listeners(database_url))
    async with FaultProxy.before(database_url) as proxy:
        await proxy.hang()
        connecting = await listen(proxy.url, ear, connect_timeout=120.0)
        await until(lambda: proxy.connections)
        began_s = time.monotonic()
        await connecting.stop()
        assert time.monotonic() - began_s < 12


def test_a_url_that_is_none_is_refused_at_once() -> None:
    settings = DatabaseSettings(listen_url="redis://here")
    with pytest.raises(ConfigurationError, match=r"database\.listen_url"):
        Listener(settings, url="redis://here", application_name="tollgate")


async def test_with_nobody_to_hear_there_is_no_connection(
    listen: Listen, database_url: str
) -> None:
    async with FaultProxy.before(database_url) as proxy:
        listener = await listen(proxy.url)
        await asyncio.sleep(0.1)  # it would have connected by now
        await listener.stop()
        assert proxy.accepted == 0
