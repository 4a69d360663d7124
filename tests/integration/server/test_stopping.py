"""How a server leaves: no request is lost, nothing is left behind."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter

import aiohttp
import pytest

from scripts.processes import alive
from tests.support.served import PATIENCE_S, Start
from tests.support.waiting import until


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
async def test_stopping_loses_no_request_and_leaves_nothing(start: Start, number: int) -> None:
    async with start(drain_delay=2.0) as served:
        (worker,) = served.workers()
        slow = await served.slow_request()
        served.process.send_signal(number)
        await served.until_status(f"{served.internal}/readyz", 503)
        assert await served.status(f"{served.public}/readyz") == 503
        assert await served.status(f"{served.public}/about") == 200, "still accepting"
        await served.until_status(f"{served.public}/about", 0)
        assert await served.status(f"{served.internal}/readyz") == 503, "probes to the last"
        served.let_slow_end()
        assert await slow == (200, "done")
        assert await served.ended() == 0
        assert not alive(worker)
        assert (served.folder / f"closed-{worker}").exists()
        assert list((served.folder / "metrics").iterdir()) == []


async def test_draining_answers_end_their_connections(start: Start) -> None:
    async with start(drain_delay=3.0) as served, aiohttp.ClientSession() as session:

        async def refusal(url: str, *, last: bool = False) -> str:
            async with session.get(f"{url}/refused") as answer:
                assert (answer.headers.get("Connection") == "close") == last
                return await answer.text()

        async with session.get(f"{served.public}/about") as answer:
            assert answer.headers.get("Connection") != "close"
        assert [await refusal(served.public) for _ in range(2)] == ["inside", "at the door"]
        served.process.send_signal(signal.SIGTERM)
        await served.until_status(f"{served.internal}/readyz", 503)
        assert await refusal(served.public, last=True) == "inside"
        async with session.get(f"{served.public}/about") as answer:
            assert answer.status == 200
            assert answer.headers["Connection"] == "close"


async def test_request_that_never_ends_is_cancelled_after_its_time(start: Start) -> None:
    async with start(drain_delay=0.0, shutdown_timeout=0.5) as served:
        (worker,) = served.workers()
        slow = await served.slow_request()
        served.process.send_signal(signal.SIGTERM)
        assert await served.ended() == 0
        with pytest.raises(aiohttp.ClientError):
            await slow
        assert (served.folder / f"closed-{worker}").exists()


async def test_worker_told_to_leave_before_its_loop_runs_leaves(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_TELL_EARLY", "1")
    async with start() as served:
        (told,) = [event["worker"] for event in served.events("worker_ready")][:1]
        await until(lambda: not alive(told))
        assert [event["worker"] for event in served.events("worker_left")] == [told]


async def test_second_signal_does_not_wait_for_requests(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_SAME_WISH_S", "0")
    async with start(drain_delay=300.0, shutdown_timeout=300.0) as served:
        (worker,) = served.workers()
        slow = await served.slow_request()
        served.process.send_signal(signal.SIGTERM)
        await until(lambda: bool(served.events("worker_leaving")))
        served.process.send_signal(signal.SIGINT)
        assert await served.ended() == 0
        with pytest.raises(aiohttp.ClientError):
            await slow
        assert (served.folder / f"closed-{worker}").exists(), "closed, not killed"


async def test_ctrl_c_that_arrives_on_two_ways_is_one_wish(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The terminal tells every process, and a parent passes it on."""
    monkeypatch.setenv("TEST_SAME_WISH_S", "60")
    async with start(drain_delay=0.5) as served:
        (worker,) = served.workers()
        slow = await served.slow_request()
        os.kill(worker, signal.SIGINT)
        served.process.send_signal(signal.SIGINT)
        await until(lambda: bool(served.events("worker_leaving")))
        served.process.send_signal(signal.SIGTERM)
        await served.until_status(f"{served.public}/about", 0)
        served.let_slow_end()
        assert await slow == (200, "done")
        assert await served.ended() == 0


@pytest.mark.parametrize("workers", [1, 2])
async def test_no_connection_is_lost_when_a_replica_leaves(start: Start, workers: int) -> None:
    """Each request on a connection of its own: answered, or refused before it was sent."""
    outcomes: Counter[str] = Counter()
    async with start(workers=workers, drain_delay=0.2) as served:
        host, _, port = served.public.removeprefix("http://").partition(":")

        async def visit() -> None:
            while not outcomes["refused"]:
                try:
                    reader, writer = await asyncio.open_connection(host, int(port))
                except ConnectionRefusedError:
                    outcomes["refused"] += 1
                    return
                try:
                    writer.write(b"POST /about HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
                    head = await reader.readuntil(b"\r\n\r\n")
                    outcomes["answered" if head.startswith(b"HTTP/1.1 200") else "other"] += 1
                except (OSError, asyncio.IncompleteReadError):
                    outcomes["lost"] += 1
                finally:
                    writer.close()

        async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as group:
            for _ in range(32):
                group.create_task(visit())
            await until(lambda: outcomes["answered"] > 100)
            served.process.send_signal(signal.SIGTERM)
        assert await served.ended() == 0
    assert set(outcomes) == {"answered", "refused"}


async def test_idle_connection_of_a_balancer_is_good_until_it_lets_go(start: Start) -> None:
    """Its request may come at any moment of the lingering: it is answered, as the last one."""
    async with start(drain_delay=0.0, idle_linger=20.0) as served:
        (worker,) = served.workers()
        host, _, port = served.public.removeprefix("http://").partition(":")
        idle, other = [await asyncio.open_connection(host, int(port)) for _ in range(2)]
        request = b"POST /about HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
        for reader, writer in (idle, other):
            writer.write(request)
            assert b"200 OK" in await reader.readuntil(b"\r\n\r\n")
        served.process.send_signal(signal.SIGTERM)
        await served.until_status(f"{served.public}/about", 0)
        assert alive(worker)
        reader, writer = idle
        await reader.read(1000)
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"200 OK" in head
        assert b"connection: close" in head.lower()
        for _, writer in (idle, other):
            writer.close()
        assert await served.ended() == 0, "at once when the last has let go"
