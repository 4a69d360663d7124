"""A change of a flow, made by plain SQL, reaches every worker by whichever way is left."""

from __future__ import annotations

import asyncio
import uuid

from scripts.faultproxy import FaultProxy
from service.flows.cached import INDEX
from service.flows.changes import CHANNEL
from tests.support.followers import Hire, overhear, write
from tests.support.house import flow_definition
from tests.support.postgres import ask
from tests.support.waiting import until

#: Sessions of workers that have read a flow by its uid since some moment, and nothing later.
READ = """
SELECT 1 FROM pg_stat_activity
 WHERE datname = current_database() AND application_name = 'tollgate' AND state = 'idle'
   AND query LIKE '%FROM flows%WHERE uid = %' AND query_start > '{since}'
"""


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


async def test_a_load_begun_before_the_change_and_ended_after_it_does_not_stay(
    hire: Hire, sold: str
) -> None:
    async with FaultProxy.before(sold) as slow:
        worker = await hire(database=slow.url, listen=sold)
        assert await worker.version() == "1"
        await worker.cache.invalidate([f"uid:{flow_definition('echo').first_uid()}"])
        await slow.delay(2.5)
        [(now,)] = ask(sold, "SELECT clock_timestamp()::text")
        reading = asyncio.create_task(worker.version())
        await until(lambda: ask(sold, READ.format(since=now)))  # the answer is on its way
        assert not reading.done()
        write(sold, "2")
        assert await reading == "1"  # it had been read when that was so
        await slow.forward()
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
