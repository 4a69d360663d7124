"""A service at work on real servers, looked at from outside: by ``make load``, and measured."""

from __future__ import annotations

import asyncio
import http.client
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from urllib.parse import urlsplit

import pytest

from scripts.bench.contestants import LIFTED
from scripts.bench.load import Generator, Load, Outcome
from scripts.capacity.ground import Replica
from scripts.capacity.loads import told_per_s
from scripts.capacity.measure import OneWorker, Scale
from scripts.capacity.meter import Meter, between
from scripts.devservers import EmbeddedValkey
from scripts.load.watching.info import Server
from scripts.load.watching.observe import Observation, Observed, Observer
from scripts.stack import Stack, stack
from tests.support.servers import scratch_directory

Start = Callable[[], Stack]
STATUSES, HEALTHS = 60, 300


@pytest.fixture
def start(database_url: str, redis_url: str) -> Iterator[Start]:
    settings = {
        **LIFTED,
        "TOLLGATE_SERVER__WORKERS": "1",
        "TOLLGATE_SERVER__TRUSTED_PROXIES": "127.0.0.1/32",
        "TOLLGATE_OVERLOAD__ENABLED": "false",
        "TOLLGATE_PAYMENT__POLL_INTERVAL": "0.2",
        "TOLLGATE_JOBS__POLL_INTERVAL": "0.2",
        "TOLLGATE_DATABASE__URL": database_url,
        "TOLLGATE_REDIS__URL": redis_url,
    }
    with scratch_directory() as home, ExitStack() as started:
        yield lambda: started.enter_context(stack(home, settings))


def ask(url: str, path: str, times: int) -> list[int]:
    address = urlsplit(url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=10)
    statuses = []
    for _ in range(times):
        connection.request("GET", path)
        answer = connection.getresponse()
        answer.read()
        statuses.append(answer.status)
    connection.close()
    return statuses


async def test_what_requests_take_is_seen_by_part(start: Start, redis_url: str) -> None:
    service = start().service
    assert service.redis_url == redis_url
    assert service.pid != os.getpid()

    async def observed(work: Callable[[], object]) -> Observation:
        # The session's own servers are ours; the worker is below the program that we started.
        observer = Observer(Observed(os.getpid(), redis_url, (service.internal_url,)))
        await observer.start()
        await asyncio.to_thread(work)
        return await observer.stop()

    def work() -> None:
        nobody = "text-summary/status?job_id=00000000-0000-4000-8000-000000000000"
        assert set(ask(service.url, f"/{nobody}", STATUSES)) == {404}
        assert set(ask(service.url, "/health", HEALTHS)) == {200}

    await asyncio.to_thread(
        ask, service.url, "/health", HEALTHS
    )  # what was before counts for nothing
    seen = await observed(work)
    last, asked = seen.samples[-1], STATUSES + HEALTHS
    assert {"workers", "masters", "redis", "postgres", "sandbox"} <= {
        part for part, used_s in last.cpu_s.items() if used_s >= 0
    }
    assert last.cpu_s["workers"] > 0
    # One after the other: each is a call of its own. The service's own loops go on besides.
    besides = 100 + 60 * last.at
    assert STATUSES <= last.queries <= STATUSES + besides
    assert asked <= last.redis_commands <= asked + besides
    assert 50 * asked <= last.redis_bytes <= 2_000 * asked
    assert last.pool_size == 20
    assert (last.breaker, last.shed, last.denied_locally) == ("closed", 0, 0)
    assert [one.text for one in seen.events] == []
    for before, after in zip(seen.samples, seen.samples[1:], strict=False):
        assert before.at < after.at
        assert before.redis_commands <= after.redis_commands
    costs = seen.costs(asked)
    assert 1 <= (costs.redis_commands or 0) <= 2
    assert costs.cpu_us["workers"] == pytest.approx(last.cpu_s["workers"] / asked * 1e6)


async def test_asking_redis_is_not_counted(private_valkey: Callable[[], EmbeddedValkey]) -> None:
    server = Server(private_valkey().url)
    first, *_, last = [await server.look() for _ in range(5)]
    await server.close()
    assert first is not None
    assert last is not None
    assert last.commands == first.commands
    assert abs(last.bytes - first.bytes) < 400


async def test_redis_that_is_away_is_seen_by_nobody() -> None:
    server = Server("redis://127.0.0.1:1")
    assert await server.look() is None
    await server.close()


class Asking(Generator):
    """Real requests, a few of them, without a process of its own."""

    name = "a test"

    def offer(self, load: Load) -> Outcome:
        address = urlsplit(load.url)
        began_s = time.monotonic()
        assert set(ask(f"http://{address.netloc}", address.path, 20)) == {200}
        return Outcome(20, 0, time.monotonic() - began_s, 1.0, 1.0)


def test_coefficients_of_a_worker_are_measured(
    start: Start, redis_url: str, database_url: str
) -> None:
    service = start().service
    meter = Meter(os.getpid(), redis_url, database_url, service.internal_url)
    scale = Scale(seconds=0.2, rounds=1, jobs=4, rest_s=0.2)
    one = OneWorker(Replica(1, service, meter), Asking(), scale)
    try:
        rest = between(meter.read(), meter.read())
        admission, statuses = one.admission(116.0), one.statuses(rest)
        paid = one.job(rest, paid=True)
        told = told_per_s(database_url, statuses.jobs[:2], 0.2)
    finally:
        meter.close()
    assert admission.redis_call_us > 0
    assert 50 < admission.call_bytes < 2_000
    assert statuses.routes["status"] > statuses.routes["status_final"] > 0
    assert len(statuses.jobs) == 1_000
    assert paid.told == 2
    assert paid.queries > 5
    assert paid.commits > 3
    assert paid.payment_calls >= 2
    assert paid.wal_bytes > 1_000
    assert told > 1
