"""Real processes: a master, its workers, their sockets, and how they leave.

A tiny application (tiny_application.py) stands in for Tollgate's own: only serving is tested here.
"""

import asyncio
import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from service.shared_counts import PREFIX, Directory

ROOT = Path(__file__).parents[2]
PROGRAM = ROOT / "tests/integration/tiny_application.py"
#: Long enough for a loaded machine; nothing here measures time.
PATIENCE_S = 40.0


@dataclass
class Served:
    """A running server as a test sees it."""

    process: subprocess.Popen[bytes]
    folder: Path
    public: str = ""
    internal: str = ""

    @property
    def text(self) -> str:
        return (self.folder / "output").read_text()

    def events(self, name: str) -> list[dict[str, Any]]:
        events = [json.loads(line) for line in self.text.splitlines() if line.startswith("{")]
        return [event for event in events if event["event"] == name]

    def expect_successors_first(self, *, workers: int) -> None:
        """Whenever one left there were as many as should be without it."""
        names = re.findall(r'"event":\s*"(worker_ready|worker_leaving)"', self.text)
        serving = 0
        for name in names:
            serving += 1 if name == "worker_ready" else -1
            assert name == "worker_ready" or serving >= workers, names
        assert "worker_leaving" in names

    def workers(self) -> set[int]:
        return children(self.process.pid)

    def configure(self, **server: object) -> None:
        lines = [f"{name} = {json.dumps(value)}" for name, value in server.items()]
        (self.folder / "tollgate.toml").write_text("\n".join(["[server]", *lines]))

    async def get(self, url: str) -> tuple[int, str]:
        """On a connection of its own."""
        connector = aiohttp.TCPConnector(force_close=True)
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            session.get(url, timeout=aiohttp.ClientTimeout(PATIENCE_S)) as answer,
        ):
            return answer.status, await answer.text()

    async def status(self, url: str) -> int:
        """0 where nobody takes the connection."""
        try:
            return (await self.get(url))[0]
        except aiohttp.ClientConnectorError:
            return 0

    async def slow_request(self) -> asyncio.Task[tuple[int, str]]:
        """One that a worker has begun to work on, and does until it may end."""
        task = asyncio.create_task(self.get(f"{self.public}/slow"))
        await until((self.folder / "slow-began").exists)
        return task

    def let_slow_end(self) -> None:
        (self.folder / "slow-may-end").touch()

    async def ended(self) -> int:
        return await asyncio.to_thread(self.process.wait, PATIENCE_S)


Start = Callable[..., AbstractAsyncContextManager[Served]]


@pytest.fixture
def start(tmp_path: Path) -> Start:
    """Starts a server in a folder of its own, and leaves nothing of it behind."""

    @asynccontextmanager
    async def started(*, ready: bool = True, **server: object) -> AsyncIterator[Served]:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("TOLLGATE_")}
        environment |= {
            "TEST_NOTES": str(tmp_path),
            "TOLLGATE_CONFIG": str(tmp_path / "tollgate.toml"),
            "PROMETHEUS_MULTIPROC_DIR": str(tmp_path / "metrics"),
            "PYTHONPATH": str(ROOT),
        }
        (tmp_path / "metrics").mkdir(exist_ok=True)
        given = {"port": 0, "internal_port": 0, "workers": 1, "drain_delay": 1.0} | server
        with (tmp_path / "output").open("ab") as output:
            served = Served(None, tmp_path)  # type: ignore[arg-type]
            served.configure(**given)
            served.process = subprocess.Popen(
                [sys.executable, str(PROGRAM)], env=environment, stdout=output, stderr=output
            )
        known: set[int] = set()
        try:
            if ready:
                await until(
                    lambda: len(served.events("worker_ready")) >= int(str(given["workers"]))
                )
                (event,) = served.events("serving")
                served.public, served.internal = (
                    f"http://{event[name]}" for name in ("public", "internal")
                )
            known = served.workers()
            yield served
        finally:
            known |= served.workers()
            served.process.kill()
            served.process.wait()
            for pid in known:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    return started


def children(pid: int) -> set[int]:
    found = set()
    for status in Path("/proc").glob("[0-9]*/status"):
        with contextlib.suppress(OSError):
            text = status.read_text()
            if re.search(rf"^PPid:\t{pid}$", text, re.MULTILINE) and "State:\tZ" not in text:
                found.add(int(status.parent.name))
    return found


def alive(pid: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.sleep(0.05)


async def until_status(ask: Callable[[], Awaitable[int]], expected: int) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while await ask() != expected:
            await asyncio.sleep(0.05)


# --- leaving ----------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
async def test_stopping_loses_no_request_and_leaves_nothing(start: Start, number: int) -> None:
    async with start(drain_delay=2.0) as served:
        (worker,) = served.workers()
        slow = await served.slow_request()
        served.process.send_signal(number)
        await until_status(lambda: served.status(f"{served.internal}/readyz"), 503)
        assert await served.status(f"{served.public}/readyz") == 503
        assert await served.status(f"{served.public}/about") == 200, "still accepting"
        await until_status(lambda: served.status(f"{served.public}/about"), 0)
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
        await until_status(lambda: served.status(f"{served.internal}/readyz"), 503)
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
        await until_status(lambda: served.status(f"{served.public}/about"), 0)
        served.let_slow_end()
        assert await slow == (200, "done")
        assert await served.ended() == 0


# --- workers that die, hang or are replaced ---------------------------------------------------


async def test_killed_worker_is_replaced_and_its_gauges_forgotten(start: Start) -> None:
    async with start(workers=2) as served:
        victim, other = sorted(served.workers())
        _, page = await served.get(f"{served.internal}/metrics")
        assert "tollgate_database_pool_connections 20.0" in page
        os.kill(victim, signal.SIGKILL)
        await until(lambda: len(served.events("worker_ready")) == 3)
        assert victim not in served.workers()
        assert other in served.workers()
        _, page = await served.get(f"{served.internal}/metrics")
        assert "tollgate_database_pool_connections 20.0" in page, "two live workers, not three"
        assert 'tollgate_payment_calls_total{operation="create",outcome="ok"} 3.0' in page
        assert await served.status(f"{served.public}/about") == 200


async def test_what_a_killed_master_left_of_its_metrics_is_removed_by_the_next(
    start: Start, tmp_path: Path
) -> None:
    metrics = tmp_path / "metrics"
    metrics.mkdir()
    (left := metrics / f"{PREFIX}left").mkdir()
    (left / "counter_1.db").touch()
    held = Directory.make(str(metrics))
    try:
        async with start() as served:
            assert not left.exists()
            assert held.path.exists(), "another replica's"
            assert served.events("abandoned_metrics_removed")
    finally:
        held.remove()


async def test_worker_told_to_stop_alone_is_replaced(start: Start) -> None:
    async with start(workers=1, drain_delay=0.0) as served:
        (worker,) = served.workers()
        os.kill(worker, signal.SIGTERM)
        await until(lambda: len(served.events("worker_ready")) == 2)
        assert (served.folder / f"closed-{worker}").exists()
        assert await served.status(f"{served.public}/readyz") == 200


async def test_hanging_worker_is_aborted_with_its_stack_and_replaced(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_HANG_TIMEOUT_S", "3")
    async with start() as served:
        with pytest.raises(aiohttp.ClientError):
            await served.get(f"{served.public}/hang")
        await until(lambda: len(served.events("worker_ready")) == 2)
        assert "Fatal Python error: Aborted" in served.text
        assert "in hang" in served.text
        assert await served.status(f"{served.public}/about") == 200


async def test_orphaned_worker_leaves_and_frees_the_port(start: Start) -> None:
    async with start() as served:
        (worker,) = served.workers()
        served.process.kill()
        await until(lambda: not alive(worker))
        assert (served.folder / f"closed-{worker}").exists()
        assert await served.status(f"{served.public}/about") == 0


async def test_reload_brings_new_settings_without_losing_a_request(start: Start) -> None:
    async with start(workers=1, default_flow="before", drain_delay=1.0) as served:
        (old,) = served.workers()
        slow = await served.slow_request()
        served.configure(workers=2, default_flow="after", port=1, drain_delay=1.0)
        served.process.send_signal(signal.SIGHUP)

        readiness: list[int] = []
        while len(served.events("worker_ready")) < 3 or alive(old):
            readiness.append(await served.status(f"{served.public}/readyz"))
            if len(served.events("worker_leaving")) == 1:
                served.let_slow_end()
            await asyncio.sleep(0.05)
        assert set(readiness) == {200}, "a replaced worker is no reason to leave the balancer"
        assert await slow == (200, "done")
        _, text = await served.get(f"{served.public}/about")
        about = json.loads(text)
        assert about["flow"] == "after"
        assert about["port"] == 0, "what is open already is not said to be another"
        assert len(served.workers()) == 2


async def test_workers_are_replaced_only_when_their_successors_serve(start: Start) -> None:
    async with start(workers=1, default_flow="before") as served:
        (old,) = served.workers()
        served.configure(workers=1, default_flow="slow-start")
        served.process.send_signal(signal.SIGHUP)
        await until(lambda: len(served.workers()) == 2)
        for _ in range(25):  # the master looks every second
            assert json.loads((await served.get(f"{served.public}/about"))[1])["worker"] == old
            await asyncio.sleep(0.1)
        (served.folder / "may-start").touch()
        await until(lambda: not alive(old))
        served.expect_successors_first(workers=1)
        assert json.loads((await served.get(f"{served.public}/about"))[1])["flow"] == "slow-start"


async def test_successor_that_cannot_start_leaves_its_predecessor_serving(start: Start) -> None:
    async with start(workers=1, default_flow="before") as served:
        (old,) = served.workers()
        served.configure(workers=1, default_flow="broken")
        served.process.send_signal(signal.SIGHUP)
        await until(lambda: bool(served.events("worker_not_started")))
        assert json.loads((await served.get(f"{served.public}/about"))[1])["worker"] == old
        served.configure(workers=1, default_flow="mended")
        served.process.send_signal(signal.SIGHUP)
        await until(lambda: not alive(old))
        assert json.loads((await served.get(f"{served.public}/about"))[1])["flow"] == "mended"


async def test_workers_are_recycled_after_their_requests_without_failing_one(start: Start) -> None:
    async with start(workers=2, max_requests=60, idle_linger=1.0) as served:
        first = served.workers()
        answered: set[int] = set()
        async with aiohttp.ClientSession() as session:
            session._retry_connection = False  # what fails shall show

            async def ask_over_and_over() -> None:
                while len(answered) < 5:
                    async with session.post(f"{served.public}/about") as answer:
                        answered.add((await answer.json())["worker"])

            async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as group:
                for _ in range(4):
                    group.create_task(ask_over_and_over())
        await until(lambda: not any(alive(worker) for worker in first))
        tired = served.events("worker_tired")
        assert {event["worker"] for event in tired} >= first
        assert all(event["requests"] >= 60 for event in tired)
        assert len(served.workers() & answered) >= 1
        assert all(event["retiring"] for event in served.events("worker_leaving"))
        served.expect_successors_first(workers=2)


async def test_connections_are_refused_until_a_worker_can_take_them(start: Start) -> None:
    async with start(ready=False, default_flow="slow-start") as served:
        await until(lambda: bool(served.events("serving")))
        (event,) = served.events("serving")
        for name in ("public", "internal"):
            assert await served.status(f"http://{event[name]}/readyz") == 0
        (served.folder / "may-start").touch()
        await until_status(lambda: served.status(f"http://{event['public']}/readyz"), 200)


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
        await until_status(lambda: served.status(f"{served.public}/about"), 0)
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


async def test_reload_of_wrong_settings_changes_nothing(start: Start) -> None:
    async with start() as served:
        before = served.workers()
        (served.folder / "tollgate.toml").write_text("[server]\nprot = 1\n")
        served.process.send_signal(signal.SIGHUP)
        await until(lambda: bool(served.events("settings_refused")))
        assert "prot" in served.events("settings_refused")[0]["faults"][0]
        assert await served.status(f"{served.public}/about") == 200
        assert served.workers() == before


# --- starting ---------------------------------------------------------------------------------


async def test_role_jobs_serves_only_the_internal_listener(start: Start) -> None:
    async with start(role="jobs") as served:
        assert served.events("serving")[0]["public"] is None
        assert await served.status(f"{served.internal}/readyz") == 200
        assert await served.status(f"{served.internal}/about") == 404


@pytest.mark.parametrize("name", ["port", "internal_port"])
async def test_port_in_use_is_one_line_and_the_end(start: Start, name: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        async with start(ready=False, **{name: port}) as served:
            assert await served.ended() == 1
    (line,) = served.text.splitlines()
    assert f"127.0.0.1:{port}" in line
    assert f"TOLLGATE_SERVER__{name.upper()}" in line
    assert list((served.folder / "metrics").iterdir()) == []


async def test_address_of_another_machine_is_one_line_and_the_end(start: Start) -> None:
    async with start(ready=False, host="192.0.2.1") as served:
        assert await served.ended() == 1
    assert len(served.text.splitlines()) == 1


async def test_fault_found_by_a_worker_stops_the_start_without_a_stack(start: Start) -> None:
    async with start(ready=False, default_flow="misconfigured") as served:
        assert await served.ended() == 2
    assert "tollgate: first fault\ntollgate: second fault\n" in served.text
    assert "Traceback" not in served.text


async def test_bug_in_the_start_ends_it_instead_of_starting_for_ever(start: Start) -> None:
    async with start(ready=False, default_flow="broken") as served:
        assert await served.ended() == 1
    assert "a bug at start" in served.text
    assert not served.events("worker_ready")
