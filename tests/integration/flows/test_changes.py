"""A change of a flow, made by plain SQL, reaches every worker by whichever way is left."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass

import pytest
from prometheus_client import CollectorRegistry

from scripts.devservers import EmbeddedValkey
from scripts.faultproxy import FaultProxy
from service.cache.cache import TieredCache
from service.database import Database
from service.database.listener import Listener
from service.errors import UnknownFlow
from service.flows import changes as following
from service.flows.cached import INDEX, NAMESPACE
from service.flows.catalog import Catalog
from service.flows.changes import CHANNEL, KEPT_S, MANY, FlowChanges, Hearing
from service.metrics.changes import ChangeCounts
from service.settings import CacheSettings, DatabaseSettings, RedisSettings
from service.store import keys
from service.store.client import Store
from service.store.subscription import Subscription
from tests.support.ear import PATIENCE_S, Ear
from tests.support.house import flow_definition
from tests.support.postgres import ask

NEVER_S = (1e6, 1e6)
#: Sessions of workers that have read a flow by its uid since some moment, and nothing later.
READ = """
SELECT 1 FROM pg_stat_activity
 WHERE datname = current_database() AND application_name = 'tollgate' AND state = 'idle'
   AND query LIKE '%FROM flows%WHERE uid = %' AND query_start > '{since}'
"""


@dataclass
class Worker:
    """What one process has of all this."""

    store: Store
    database: Database
    cache: TieredCache
    listener: Listener
    changes: FlowChanges
    catalog: Catalog
    registry: CollectorRegistry

    async def version(self, slug: str = "echo") -> str | None:
        try:
            return (await self.catalog.get(slug))[0].version
        except UnknownFlow:
            return None

    async def until(self, version: str | None, slug: str = "echo") -> None:
        async with asyncio.timeout(PATIENCE_S):
            while await self.version(slug) != version:
                await asyncio.sleep(0.005)

    async def until_hearing(self, *, postgres: bool, redis: bool) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while self.changes.hearing != Hearing(postgres, redis):
                await asyncio.sleep(0.005)

    def heard(self, channel: str) -> float:
        name = "tollgate_flow_changes_heard_total"
        return self.registry.get_sample_value(name, {"channel": channel}) or 0.0


Hire = Callable[..., Awaitable[Worker]]


@pytest.fixture
async def hire(
    database_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Hire]:
    """Makes started workers. Unless told to ``look``, they look into the record only after gaps.

    Their own copies live for ever, so that nothing is seen by chance.
    """
    monkeypatch.setattr(following, "AGAIN_S", (0.05, 0.1))
    async with AsyncExitStack() as stack:

        async def make(
            *,
            database: str = database_url,
            listen: str = "",
            redis: str = redis_url,
            hearing: tuple[bool, bool] | None = (True, True),
            look_s: tuple[float, float] = NEVER_S,
        ) -> Worker:
            monkeypatch.setattr(following, "LOOK_S", look_s)
            store = Store(RedisSettings(timeout=5.0), url=redis)
            stack.push_async_callback(store.close)
            settings = DatabaseSettings(pool_min=1, pool_max=4, connect_timeout=1.0)
            opened = Database(settings, url=database)
            await opened.open()
            stack.push_async_callback(opened.close)
            cache = TieredCache(
                store, CacheSettings(local_seconds=60, unknown_seconds=600), namespace=NAMESPACE
            )
            stack.push_async_callback(cache.close)
            listener = Listener(settings, url=listen or database, application_name="listener")
            registry = CollectorRegistry()
            changes = FlowChanges(opened, store, cache, listener, counts=ChangeCounts(registry))
            worker = Worker(
                store, opened, cache, listener, changes, Catalog(opened, cache), registry
            )
            await changes.start()
            stack.push_async_callback(changes.stop)
            await listener.start()
            stack.push_async_callback(listener.stop)
            if hearing:
                await worker.until_hearing(postgres=hearing[0], redis=hearing[1])
            return worker

        yield make


@pytest.fixture
async def sold(database_url: str) -> str:
    """Two flows are for sale, which no cache has heard of."""
    for slug in ("echo", "other"):
        row = flow_definition(slug)
        uid = row.first_uid()
        document = json.dumps(row.document())
        ask(
            database_url,
            f"INSERT INTO flows VALUES ('{uid}', '{slug}', '{row.name}', '{document}', 'd');"
            f"INSERT INTO flow_aliases VALUES ('{slug}', '{uid}'), ('{row.name.lower()}', '{uid}')",
        )
    return database_url


async def until(holds: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not holds():
            await asyncio.sleep(0.01)


async def overhear(store: Store) -> tuple[Ear, Subscription]:
    """Whatever the workers tell each other from now on; the subscription is to be stopped."""
    ear = Ear(keys.cache_channel(NAMESPACE))
    subscription = store.subscription(ear.channel, ear.heard.append, gap=ear.gap)
    await subscription.start()
    await ear.until("gap")
    return ear, subscription


async def scripts_run(store: Store) -> int:
    seen = await store.client.info("commandstats")
    return int(seen["cmdstat_evalsha"]["calls"])


def write(url: str, version: str, where: str = "slug = 'echo'") -> None:
    ask(
        url,
        f"UPDATE flows SET definition = jsonb_set(definition, '{{version}}', '\"{version}\"')"
        f" WHERE {where}",
    )


async def test_every_worker_forgets_what_plain_sql_changes(hire: Hire, sold: str) -> None:
    workers = [await hire() for _ in range(3)]
    for worker in workers:
        assert await worker.version() == "1"
        assert await worker.version("new") is None
        assert len((await worker.catalog.page(after=None, limit=9)).lines) == 2
    write(sold, "2")
    for worker in workers:
        await worker.until("2")

    ask(sold, "UPDATE flows SET enabled = false WHERE slug = 'echo'")
    for worker in workers:
        await worker.until(None)
        assert len((await worker.catalog.page(after=None, limit=9)).lines) == 1

    ask(sold, "UPDATE flow_aliases SET alias = 'new' WHERE alias = 'other'")
    for worker in workers:
        await worker.until("1", "new")
        await worker.until(None, "other")

    ask(sold, "UPDATE flows SET enabled = true; DELETE FROM flows WHERE slug = 'other'")
    for worker in workers:
        await worker.until("2")
        await worker.until(None, "new")
        assert len((await worker.catalog.page(after=None, limit=9)).lines) == 1

    ask(sold, "TRUNCATE flows CASCADE")
    for worker in workers:
        await worker.until(None)


async def test_one_change_counts_once_in_the_fleet(hire: Hire, sold: str) -> None:
    workers = [await hire() for _ in range(3)]
    published, subscription = await overhear(workers[0].store)
    loads = sum(worker.cache.statistics().loads.misses for worker in workers)
    write(sold, "2")
    for worker in workers:
        await worker.until("2")
    await until(lambda: all(worker.heard("postgres") for worker in workers))
    await until(lambda: all(worker.heard("redis") >= 2 for worker in workers))
    await subscription.stop()
    uid = flow_definition("echo").first_uid()
    assert sorted(published.heard[1:]) == [INDEX, f"uid:{uid}"]
    now = sum(worker.cache.statistics().loads.misses for worker in workers)
    assert now - loads <= 4  # the alias, the flow, the index; one may begin before Redis is told


async def test_a_worker_that_cannot_listen_hears_of_it_from_redis(hire: Hire, sold: str) -> None:
    async with FaultProxy.before(sold) as proxy:
        await proxy.refuse()
        deaf = await hire(listen=proxy.url, hearing=(False, True))
        await hire()
        assert await deaf.version() == "1"
        write(sold, "2")
        await deaf.until("2")
        assert deaf.heard("redis")
        assert not deaf.heard("postgres") + deaf.heard("record")


async def test_a_worker_that_redis_cannot_reach_hears_of_it_from_postgres(
    hire: Hire, sold: str, redis_url: str
) -> None:
    async with FaultProxy.before(redis_url) as proxy:
        await proxy.refuse()
        apart = await hire(redis=proxy.url, hearing=(True, False))
        assert await apart.version() == "1"
        write(sold, "2")
        await apart.until("2")


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
        await asyncio.sleep(0.3)
        assert [await worker.version() for worker in workers] == ["1", "1"]
        await proxy.forward()
        for worker in workers:
            await worker.until("2")


async def test_a_killed_listening_session_costs_nothing(hire: Hire, sold: str) -> None:
    worker = await hire()
    assert await worker.version() == "1"
    ask(
        sold,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE application_name = 'listener' AND datname = current_database()",
    )
    write(sold, "2")
    await worker.until("2")


async def test_what_changed_while_no_worker_was_there_is_found_at_start(
    hire: Hire, sold: str
) -> None:
    first = await hire()
    assert await first.version() == "1"
    await first.until_hearing(postgres=True, redis=True)
    async with asyncio.timeout(PATIENCE_S):
        while not await first.store.client.exists(keys.cache_position(NAMESPACE)):
            await asyncio.sleep(0.005)
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


async def test_one_cut_off_from_everything_needs_redis_alone_to_learn_of_it(
    hire: Hire, sold: str, redis_url: str
) -> None:
    async with FaultProxy.before(sold) as postgres, FaultProxy.before(redis_url) as redis:
        apart = await hire(database=postgres.url, redis=redis.url)
        other = await hire()
        assert await apart.version() == await other.version() == "1"
        await postgres.refuse()
        await redis.refuse()
        await apart.until_hearing(postgres=False, redis=False)
        write(sold, "2")
        await other.until("2")
        assert await apart.version() == "1"
        await redis.forward()
        await apart.until("2")


async def test_a_redis_that_lost_its_latest_writes_is_told_again(hire: Hire, sold: str) -> None:
    worker = await hire(look_s=(0.05, 0.1))
    client = worker.store.client
    value = keys.cache_value(NAMESPACE, f"uid:{flow_definition('echo').first_uid()}")
    position = keys.cache_position(NAMESPACE)
    assert await worker.version() == "1"
    async with asyncio.timeout(PATIENCE_S):
        while not await client.exists(position):
            await asyncio.sleep(0.005)
    before = await client.dump(value), await client.get(position)
    write(sold, "2")
    await worker.until("2")
    async with asyncio.timeout(PATIENCE_S):
        while await client.get(position) == before[1]:
            await asyncio.sleep(0.005)
    # As after a failover to a replica that was behind: what was told since is gone.
    await client.flushall()
    await client.restore(value, 60_000, before[0])
    await client.set(position, before[1])
    await until(lambda: worker.heard("record") == 1)
    await (await hire()).until("2")


async def test_a_load_begun_before_the_change_and_ended_after_it_does_not_stay(
    hire: Hire, sold: str
) -> None:
    async with FaultProxy.before(sold) as slow:
        worker = await hire(database=slow.url, listen=sold)
        assert await worker.version() == "1"
        await worker.cache.invalidate([f"uid:{flow_definition('echo').first_uid()}"])
        await slow.delay(0.5)
        [(now,)] = ask(sold, "SELECT clock_timestamp()::text")
        reading = asyncio.create_task(worker.version())
        await until(lambda: ask(sold, READ.format(since=now)))  # the answer is on its way
        assert not reading.done()
        write(sold, "2")
        assert await reading == "1"  # it had been read when that was so
        assert await worker.version() == "2"
        assert await (await hire()).version() == "2"


async def test_changes_of_any_size_and_unreadable_words_are_followed(hire: Hire, sold: str) -> None:
    worker = await hire()
    assert await worker.version() == "1"
    many = ", ".join(f"('{uuid.uuid4()}', 'n{n}', 'n', '{{}}', 'd')" for n in range(500))
    assert await worker.version("n7") is None
    for words in ("", "no json", '{"change": 7}', "[]", '{"change": "x", "uids": 5, "aliases": 5}'):
        ask(sold, f"SELECT pg_notify('{CHANNEL}', '{words}')")
    ask(sold, f"INSERT INTO flows VALUES {many}")
    write(sold, "2", where="true")
    await worker.until("2")
    assert await worker.version("other") == "2"


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
    async with asyncio.timeout(PATIENCE_S):
        while await worker.store.client.get(claim) != b"done":
            await asyncio.sleep(0.005)


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
    await asyncio.sleep(0.5)
    ask(sold, "ALTER TABLE gone RENAME TO flow_changes")
    write(sold, "2")
    await worker.until("2")
