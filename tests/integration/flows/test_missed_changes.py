"""What no worker was told, or cannot be told in one message, is found in the record of changes."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable

import pytest

from scripts.devservers import EmbeddedValkey
from scripts.faultproxy import FaultProxy
from service.flows.cached import NAMESPACE
from service.flows.changes import KEPT_S, MANY
from service.store import keys
from tests.support.followers import Hire, overhear, scripts_run, write
from tests.support.house import flow_definition
from tests.support.postgres import ask
from tests.support.waiting import until


async def test_what_a_whole_deaf_fleet_missed_is_found_on_record(hire: Hire, sold: str) -> None:
    async with FaultProxy.before(sold) as proxy:
        await proxy.refuse()
        workers = [
            await hire(listen=proxy.url, hearing=(False, True), look_s=(0.1, 0.2)) for _ in range(2)
        ]
        for worker in workers:
            assert await worker.version() == "1"
        write(sold, "2")
        for worker in workers:
            await worker.until("2")
        await until(lambda: any(worker.heard("record") for worker in workers))


async def test_what_was_missed_in_a_gap_is_looked_up_when_it_ends(hire: Hire, sold: str) -> None:
    async with FaultProxy.before(sold) as proxy:
        workers = [await hire(listen=proxy.url) for _ in range(2)]
        for worker in workers:
            assert await worker.version() == "1"
        await proxy.refuse()
        for worker in workers:
            await worker.until_hearing(postgres=False, redis=True)
        write(sold, "2")
        await asyncio.sleep(0.3)  # time enough to hear of it, were there a way
        assert [await worker.version() for worker in workers] == ["1", "1"]
        await proxy.forward()
        for worker in workers:
            await worker.until("2")


async def test_what_changed_while_no_worker_was_there_is_found_at_start(
    hire: Hire, sold: str
) -> None:
    first = await hire()
    assert await first.version() == "1"
    await first.until_hearing(postgres=True, redis=True)
    await until(lambda: first.store.client.exists(keys.cache_position(NAMESPACE)))
    await first.changes.stop()
    await first.listener.stop()
    write(sold, "2")
    second = await hire()
    await second.until("2")
    await until(lambda: second.heard("record") == 1)


async def test_a_redis_that_was_away_is_told_when_it_is_back(
    hire: Hire, sold: str, private_valkey: Callable[[], EmbeddedValkey]
) -> None:
    server = private_valkey()
    async with FaultProxy.before(server.url) as proxy:
        worker = await hire(redis=proxy.url)
        assert await worker.version() == "1"
        await proxy.refuse()
        await worker.until_hearing(postgres=True, redis=False)
        write(sold, "2")
        await worker.until("2")
        await proxy.forward()
        await worker.until_hearing(postgres=True, redis=True)
        newcomer = await hire(redis=server.url)
        await newcomer.until("2")
        await worker.until("2")


async def test_a_redis_that_lost_its_latest_writes_is_told_again(hire: Hire, sold: str) -> None:
    worker = await hire(look_s=(0.05, 0.1))
    client = worker.store.client
    value = keys.cache_value(NAMESPACE, f"uid:{flow_definition('echo').first_uid()}")
    position = keys.cache_position(NAMESPACE)
    assert await worker.version() == "1"
    await until(lambda: client.exists(position))
    before = await client.dump(value), await client.get(position)
    write(sold, "2")
    await worker.until("2")

    async def told() -> bool:
        return await client.get(position) != before[1]

    await until(told)
    # As after a failover to a replica that was behind: what was told since is gone.
    await client.flushall()
    await client.restore(value, 60_000, before[0])
    await client.set(position, before[1])
    await until(lambda: worker.heard("record") == 1)
    await (await hire()).until("2")


async def test_a_large_change_is_told_to_redis_by_one_worker_alone(hire: Hire, sold: str) -> None:
    workers = [await hire(look_s=(0.2, 0.3)) for _ in range(3)]
    for worker in workers:
        assert await worker.version("n7") is None
        assert await worker.version() == "1"
    published, subscription = await overhear(workers[0].store)
    before = await scripts_run(workers[0].store)
    ask(
        sold,
        f"INSERT INTO flow_aliases SELECT 'n' || i, uid FROM generate_series(1, {3 * MANY}) i,"
        " flows WHERE slug = 'echo'",
    )
    for worker in workers:
        await worker.until("1", "n7")
    await until(lambda: all(worker.heard("record") for worker in workers))
    await subscription.stop()
    told = [key for key in published.heard if key.startswith("alias:n")]
    assert len(told) == len(set(told)) == 3 * MANY
    assert await scripts_run(workers[0].store) - before < 2 * 3 * MANY


async def test_a_large_change_whose_worker_died_is_taken_up_by_another(
    hire: Hire, sold: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys, "CACHE_CLAIM_LIFE_MS", 700)
    worker = await hire(look_s=(0.1, 0.2))
    assert await worker.version() == "1"
    uid = flow_definition("echo").first_uid()
    change = uuid.uuid4()
    claim = keys.cache_claim(NAMESPACE, str(change))
    await worker.store.client.set(claim, b"at it", px=keys.CACHE_CLAIM_LIFE_MS)
    ask(sold, "ALTER TABLE flows DISABLE TRIGGER flows_updated")
    write(sold, "2")
    ask(
        sold,
        f"INSERT INTO flow_changes (change, uids, aliases) SELECT '{change}', '{{{uid}}}',"
        f" array_agg('n' || i) FROM generate_series(1, {MANY}) i",
    )
    await worker.until("2")

    async def done() -> bool:
        return await worker.store.client.get(claim) == b"done"

    await until(done)


async def test_the_record_is_kept_for_a_day(hire: Hire, sold: str) -> None:
    worker = await hire()
    ask(sold, f"UPDATE flow_changes SET at = at - interval '{KEPT_S + 60} seconds'")
    write(sold, "2")
    await worker.changes.tidy()
    assert ask(sold, "SELECT count(*) FROM flow_changes") == [(1,)]


async def test_what_cannot_be_followed_is_said_once_and_followed_again(
    hire: Hire, sold: str
) -> None:
    worker = await hire(look_s=(0.05, 0.1))
    assert await worker.version() == "1"
    ask(sold, "ALTER TABLE flow_changes RENAME TO gone")
    await asyncio.sleep(0.5)  # several looks, all in vain
    ask(sold, "ALTER TABLE gone RENAME TO flow_changes")
    write(sold, "2")
    await worker.until("2")
