"""Several workers tell of themselves on a real server, and each reads all of them."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from service.fleet import board as board_module
from service.fleet.board import MOST_SAMPLES, Board
from service.fleet.codec import MOST_BYTES, report_bytes
from service.fleet.counting import Counting
from service.fleet.fleet import Fleet, Vitals
from service.fleet.models import Identity, Numbers, Report, Sample, Use
from service.metrics import HttpCounts, Metrics
from service.store import keys
from service.store.client import Store

CLASSES = {"/flows": "flows"}
NOWHERE = "redis://127.0.0.1:1/0"
ALL_KEYS = (keys.fleet_workers(), keys.fleet_reports(), keys.fleet_samples(), keys.fleet_salt())


@dataclass(slots=True)
class Worker:
    """One worker as far as the fleet sees it."""

    fleet: Fleet
    metrics: Metrics
    http: HttpCounts

    def answered(self, number: int, status: int = 200) -> None:
        route = self.http.of("GET", "http", "/flows")
        for _ in range(number):
            route.begun += 1
            route.ended(status, time.monotonic() - 0.02)

    def refused(self, principal: str, number: int) -> None:
        for _ in range(number):
            self.metrics.admission.denied.note(principal)


def worker(
    store: Store, name: str, *, secret: str | None = "a secret", modes: tuple[str, ...] = ()
) -> Worker:
    registry = CollectorRegistry()
    metrics, http = Metrics(registry), HttpCounts(registry)
    vitals = Vitals(Use(1, 100), Use(3, 20), Use(2, 20), Use(0, 20), "fleet", modes)
    fleet = Fleet(
        Board(store),
        Counting(registry, CLASSES, clock=time.monotonic),
        identity=Identity(name, "replica:8000", 1, "0.1.0", "all", time.time()),
        vitals=lambda: vitals,
        refused=metrics.admission.denied.taken,
        secret=secret,
    )
    return Worker(fleet, metrics, http)


def report(name: str) -> Report:
    return Report(Identity(name, "r:1", 1, "0.1.0", "all", 0.0), Numbers(in_flight=1))


async def memory(store: Store) -> int:
    sizes = [await store.client.memory_usage(key) for key in ALL_KEYS]
    return sum(int(size or 0) for size in sizes)


async def test_every_worker_sees_all_of_them_added_up(store: Store) -> None:
    workers = [worker(store, f"w{i}", modes=("redis_away",) * (i == 1)) for i in range(3)]
    for one in workers:
        await one.fleet.tell()
    for one in workers:
        one.answered(50)
        one.refused("ip:192.0.2.1", 40)
        await one.fleet.tell()
    for one in workers:
        picture = await one.fleet.picture()
        assert picture.whole
        assert {seen.report.identity.worker for seen in picture.workers} == {"w0", "w1", "w2"}
        assert picture.numbers.pool == Use(9, 60, 0)
        assert picture.modes == {"redis_away": 1}
        own = [seen.report.numbers.traffic["flows"]["2xx"] for seen in picture.workers]
        assert picture.numbers.traffic["flows"]["2xx"] == pytest.approx(sum(own), abs=0.01)
        [denied] = picture.denied
        alone = picture.workers[0].report.denied[0]
        assert denied.hash == alone.hash == one.fleet.pseudonym("ip:192.0.2.1")[1]
        assert denied.per_minute == pytest.approx(3 * alone.per_minute, rel=0.2)


async def test_without_a_secret_the_fleet_agrees_on_a_salt(store: Store) -> None:
    workers = [worker(store, f"w{i}", secret=None) for i in range(3)]
    for one in workers * 2:
        one.refused("ip:192.0.2.1", 5)
        await one.fleet.tell()
    hashes = {one.fleet.pseudonym("ip:192.0.2.1") for one in workers}
    assert len(hashes) == 1
    assert len((await workers[0].fleet.picture()).denied) == 1


async def test_dead_worker_vanishes_and_its_report_with_it(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(board_module, "_LIFE_MS", 300)
    alive, dead = worker(store, "alive"), worker(store, "dead")
    await dead.fleet.tell()
    await alive.fleet.tell()
    assert len((await Board(store).read()).seen) == 2
    async with asyncio.timeout(20):
        while len((await Board(store).read()).seen) != 1:
            await alive.fleet.tell()
            await asyncio.sleep(0.05)
    await alive.fleet.tell()
    assert await store.client.hkeys(keys.fleet_reports()) == [b"alive"]
    async with asyncio.timeout(20):  # and when the last one has died, nothing is left of them
        while await store.client.exists(keys.fleet_workers(), keys.fleet_reports()):
            await asyncio.sleep(0.05)


async def test_dead_worker_is_not_shown_though_nobody_has_cleared_it_away(store: Store) -> None:
    for name in ("alive", "dead"):
        await worker(store, name).fleet.tell()
    await store.client.zadd(keys.fleet_workers(), {"dead": 1})
    found = await Board(store).read()
    assert [seen.report.identity.worker for seen in found.seen] == ["alive"]


async def test_worker_that_leaves_is_gone_at_once(store: Store) -> None:
    leaving = worker(store, "w1")
    await leaving.fleet.start()
    async with asyncio.timeout(20):
        while not (await Board(store).read()).seen:
            await asyncio.sleep(0.01)
    await leaving.fleet.stop()
    await leaving.fleet.stop()
    assert (await Board(store).read()).seen == ()


async def test_samples_are_one_in_an_interval_whoever_comes_first(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(board_module, "SAMPLE_INTERVAL_S", 0.5)
    workers = [worker(store, f"w{i}") for i in range(4)]
    began_s = time.monotonic()
    while time.monotonic() - began_s < 1.8:
        await asyncio.gather(*(one.fleet.tell() for one in workers))
    samples = await workers[0].fleet.past()
    gaps = [b.at_s - a.at_s for a, b in itertools.pairwise(samples)]
    assert len(samples) >= 2
    assert min(gaps) >= 0.5
    assert samples[-1].workers == 4
    assert samples[-1].numbers.pool.size == 80


async def test_memory_stays_bounded_whatever_is_told(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(board_module, "MOST_WORKERS", 20)
    monkeypatch.setattr(board_module, "SAMPLE_INTERVAL_S", 0.001)
    monkeypatch.setattr(board_module, "MOST_SAMPLES", 30)
    board = Board(store)
    many = {f"policy_{i}": {"allowed": 1.123} for i in range(1000)}
    for number in range(60):
        await board.tell(replace(report(f"w{number}"), requests=number), salt="s")
        await board.keep(Sample(0.0, 1, 1.0, Numbers(decisions=many)))
        await asyncio.sleep(0.002)
    assert len((await board.read()).seen) == 20
    assert len(await board.samples()) == 30
    assert await memory(store) < 20 * MOST_BYTES + 30 * MOST_BYTES


async def test_fleet_of_usual_size_takes_what_the_page_of_the_manual_says(store: Store) -> None:
    traffic = {f"class{i}": {"2xx": 1.5, "429": 0.5} for i in range(11)}
    seconds = {name: tuple(0.123 for _ in range(15)) for name in traffic}
    decisions = {name: {"allowed": 10.123, "denied": 2.5} for name in traffic}
    numbers = Numbers(traffic=traffic, seconds=seconds, decisions=decisions)
    board = Board(store)
    for number in range(20):
        await board.tell(replace(report(f"w{number}"), numbers=numbers), salt="s")
    raw = await board.keep(Sample(0.0, 20, 1.0, numbers))
    assert raw
    one = await memory(store)
    # 20 reports and one sample now, with 119 more of these samples under 1 MB.
    assert one < 120_000
    size = len(report_bytes(replace(report("w"), numbers=numbers)))
    assert 20 * size + MOST_SAMPLES * size < 1_000_000


async def test_samples_go_on_after_a_clock_was_set_back(store: Store) -> None:
    future_ms = round((time.time() + 3600) * 1000)
    await store.client.xadd(keys.fleet_samples(), {"sample": b"{}"}, id=f"{future_ms}-0")
    one = worker(store, "w1")
    await one.fleet.tell()
    [sample] = await one.fleet.past()
    assert sample.at_s < time.time() + 60


async def test_report_of_another_version_is_counted_not_shown(store: Store) -> None:
    one = worker(store, "w1")
    await one.fleet.tell()
    await store.client.hset(keys.fleet_reports(), "w2", b'{"of":"tomorrow"}')
    await store.client.zadd(keys.fleet_workers(), {"w2": 9e15})
    picture = await one.fleet.picture()
    assert [seen.report.identity.worker for seen in picture.workers] == ["w1"]
    assert picture.unreadable == 1


async def test_without_redis_a_worker_shows_itself_and_says_so(
    open_store: Callable[..., Any],
) -> None:
    alone = worker(await open_store(NOWHERE), "w1")
    await alone.fleet.start()
    alone.answered(10)
    picture = await alone.fleet.picture()
    assert not picture.whole
    assert [seen.report.identity.worker for seen in picture.workers] == ["w1"]
    assert picture.numbers.pool.size == 20
    assert await alone.fleet.past() == ()
    await alone.fleet.stop()


async def test_worker_goes_on_telling_after_an_outage(
    private_valkey: Callable[[], Any], open_store: Callable[..., Any]
) -> None:
    server = private_valkey()
    one = worker(await open_store(server.url), "w1")
    await one.fleet.start()
    server.kill()
    async with asyncio.timeout(30):
        while (await one.fleet.picture()).whole:
            await asyncio.sleep(0.05)
    server.start()
    async with asyncio.timeout(30):
        while not (seen := await one.fleet.picture()).whole or not seen.workers:
            await asyncio.sleep(0.05)
    await one.fleet.stop()


async def test_many_who_look_cost_one_question(store: Store) -> None:
    one = worker(store, "w1")
    await one.fleet.tell()

    async def asked() -> int:
        found = await store.client.info("commandstats")
        return int(found.get("cmdstat_evalsha", {}).get("calls", 0))

    await one.fleet.picture()
    before = await asked()
    await asyncio.gather(*(one.fleet.picture() for _ in range(50)))
    assert await asked() - before <= 1
