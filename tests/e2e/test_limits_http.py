"""The same promise over HTTP: two replicas, four workers, one bucket, one clock 37 s behind.

Only what must have happened inside a window counts against it, so what is found is a fault.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator

import pytest

from scripts.devservers import EmbeddedValkey
from tests.e2e.crowd import Visit, crowd
from tests.e2e.replicas import PATHS, WORKERS, Replica, replicas
from tests.e2e.windows import Limit, worst_excess
from tests.support.servers import Servers, scratch_directory
from tests.support.waiting import eventually

LIMITS = {
    "input_schema": Limit(1000, 1, 100),
    "health": Limit(20, 1, 20),
    "availability": Limit(20, 1, 1),
    "default": Limit(1, 1, 1),
    "flows": Limit(12, 60, 1),
    "demo": Limit(40, 60, 1),
}
MOST = 1

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def fleet(servers: Servers) -> Iterator[list[Replica]]:
    with (
        scratch_directory() as home,
        EmbeddedValkey(home) as valkey,
        servers.cloned_database() as database_url,
        replicas(home, database_url, [valkey.url] * 2, LIMITS) as started,
    ):
        yield started


def ports(fleet: list[Replica]) -> list[int]:
    return [replica.port for replica in fleet]


async def test_no_window_over_the_whole_fleet_holds_a_token_too_many(fleet: list[Replica]) -> None:
    names = ("input_schema", "health", "availability", "default", "flows")
    found = await asyncio.gather(
        *(
            crowd(ports(fleet), PATHS[name], "198.51.100.1", run_s=3.0, connections=8,
                  pace_s=0.0 if LIMITS[name].tokens > 100 else 0.05)
            for name in names
        )
    )  # fmt: skip
    for name, replies in zip(names, found, strict=True):
        assert (replies.unexpected(), replies.lost) == (set(), 0), name
        assert worst_excess(replies.spans(), LIMITS[name]) <= MOST, name
        assert replies.spans(), name
        if name != "input_schema":  # more than this machine may offer
            assert any(reply.refused for reply in replies.known), name


async def test_a_worker_killed_under_load_brings_no_tokens(fleet: list[Replica]) -> None:
    load = asyncio.create_task(
        crowd(ports(fleet), "/health", "198.51.100.2", run_s=2.5, connections=16, pace_s=0.005)
    )
    for replica in fleet:
        await asyncio.sleep(0.5)  # each in the midst of it
        os.kill(replica.workers()[0], signal.SIGKILL)
    replies = await load
    assert replies.unexpected() == set()
    assert worst_excess(replies.spans(), LIMITS["health"]) <= MOST
    assert len(replies.spans()) > LIMITS["health"].burst
    eventually(
        lambda: all(len(replica.workers()) == WORKERS + 1 for replica in fleet),
        what="the killed are replaced",
    )


async def test_whoever_sleeps_exactly_retry_after_is_admitted(fleet: list[Replica]) -> None:
    """200 clients, each on a limit of one token, told to wait 1 s or 2 s."""

    async def patient(number: int) -> int:
        path, port = PATHS[("default", "demo")[number % 2]], fleet[number // 2 % 2].port
        async with Visit(port, f"203.0.{number // 250}.{number % 250}") as visit:
            assert (await visit.ask(path)).admitted
            # A machine that stood still in between may have brought a token.
            while not (refused := await visit.ask(path)).refused:
                assert refused.admitted
            assert refused.retry_after_s in {1, 2}
            await asyncio.sleep(refused.retry_after_s)
            return (await visit.ask(path)).status

    statuses = await asyncio.gather(*(patient(number) for number in range(200)))
    assert statuses == [404] * 200


async def test_the_check_finds_replicas_that_do_not_share(servers: Servers) -> None:
    """What a limiter per process or per replica does."""
    with (
        scratch_directory() as home,
        EmbeddedValkey(home) as valkey,
        servers.cloned_database() as database_url,
        replicas(home, database_url, [valkey.url, valkey.url.replace("/0", "/1")], LIMITS) as apart,
    ):
        replies = await crowd(
            ports(apart), "/health", "198.51.100.3", run_s=3.0, connections=8, pace_s=0.005
        )
    assert worst_excess(replies.spans(), LIMITS["health"]) > 5 * MOST
