"""How a server begins: when it takes connections, and what keeps it from beginning."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from service.shared_counts import PREFIX, Directory
from tests.support.served import Start
from tests.support.waiting import until


async def test_connections_are_refused_until_a_worker_can_take_them(start: Start) -> None:
    async with start(ready=False, default_flow="slow-start") as served:
        await until(lambda: bool(served.events("serving")))
        (event,) = served.events("serving")
        for name in ("public", "internal"):
            assert await served.status(f"http://{event[name]}/readyz") == 0
        (served.folder / "may-start").touch()
        await served.until_status(f"http://{event['public']}/readyz", 200)


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


@pytest.mark.parametrize("workers", [1, 4])
async def test_fault_found_by_workers_stops_the_start_without_a_stack(
    start: Start, workers: int
) -> None:
    async with start(ready=False, default_flow="misconfigured", workers=workers) as served:
        assert await served.ended() == 2
    assert "tollgate: first fault\ntollgate: second fault\n" in served.text
    assert "Traceback" not in served.text


@pytest.mark.parametrize("workers", [1, 4])
async def test_bug_in_the_start_ends_it_instead_of_starting_for_ever(
    start: Start, workers: int
) -> None:
    async with start(ready=False, default_flow="broken", workers=workers) as served:
        assert await served.ended() == 1
        assert served.workers() == set()
    assert "a bug at start" in served.text
    assert "HaltServer" not in served.text
    assert list((served.folder / "metrics").iterdir()) == []
    assert not served.events("worker_ready")
