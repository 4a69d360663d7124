"""PostgreSQL silent, stopped and restarted under a mixed load: what every client gets meanwhile."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass

from scripts.devservers import EmbeddedPostgres
from scripts.faultproxy import FaultProxy
from tests.e2e.conftest import Site, site
from tests.e2e.load import Got, Load, mixed_load
from tests.support.postgres import ask
from tests.support.servers import Servers
from tests.support.waiting import until

#: What the service promises.
ANSWERED_WITHIN_S = 3.0
NORMAL_WITHIN_S = 5.0
#: So long it may be a restart.
RESTART_S = 2.0
#: Served from what the workers and Redis remember.
REMEMBERED = ("flow", "schema", "status")
LOOKED_UP = ("lookup", "free", "paid")
USUAL = {"lookup": 404, "free": 200, "paid": 200}
TEXT = {"input_data": {"text": "Bees make honey. Bees live in hives."}}


@dataclass(frozen=True, slots=True)
class Place:
    postgres: EmbeddedPostgres
    proxy: FaultProxy
    load: Load


@asynccontextmanager
async def loaded(servers: Servers) -> AsyncIterator[Place]:
    """Two workers behind a proxy to their PostgreSQL, warm, and under load."""
    postgres = servers.private_postgres()
    with ExitStack() as on_exit:
        on_exit.callback(postgres.stop)
        async with FaultProxy.before(postgres.url) as proxy:
            running = site(
                servers,
                TOLLGATE_DATABASE__URL=proxy.url,
                TOLLGATE_SERVER__WORKERS="2",
                # Only a busy machine lets Redis wait, and that is another outage.
                TOLLGATE_REDIS__TIMEOUT="5",
                TOLLGATE_REDIS__LIMITER_TIMEOUT="5",
                TOLLGATE_REDIS__CONNECT_TIMEOUT="5",
            )
            made = await asyncio.to_thread(running.__enter__)
            try:
                job_id = await asyncio.to_thread(finished_job, made)
                async with mixed_load(made.running.service.url, job_id) as load:
                    await normal_again(load, 0)
                    yield Place(postgres, proxy, load)
            finally:
                await asyncio.to_thread(running.__exit__, None, None, None)


def finished_job(made: Site) -> str:
    started = made.post("/text-summary+free/start_job", TEXT)
    assert started.status == 200, started.body
    job_id = str(started.body["id"])
    status = made.get(f"/text-summary/status?job_id={job_id}&wait=20")
    while status.body["status"] != "completed":
        status = made.get(
            f"/text-summary/status?job_id={job_id}&wait=20&status_id={status.body['id']}"
        )
    return job_id


def usual(got: Got) -> bool:
    return got.status == USUAL.get(got.kind, 200)


def unusual(load: Load, since_s: float) -> list[Got]:
    return [got for got in load.since(since_s) if not usual(got)]


async def normal_again(load: Load, since_s: float) -> float:
    """When the last unusual answer had come, once only usual ones have followed for a while."""
    async with asyncio.timeout(60):
        while True:
            await asyncio.sleep(0.1)
            last_s = max((got.ended_s for got in unusual(load, since_s)), default=since_s)
            recent = load.since(last_s)
            if time.monotonic() - last_s > 0.5 and {*USUAL} <= {got.kind for got in recent}:
                return last_s


def as_promised(load: Load, since_s: float) -> list[Got]:
    """Check every answer of an outage; the refusals."""
    answers = load.since(since_s)
    remembered = [got for got in answers if got.kind in REMEMBERED]
    assert remembered
    assert not [(got.kind, got.problem) for got in remembered if got.status != 200]
    assert all("Age" in got.headers for got in remembered if got.kind == "flow")
    refused = [got for got in answers if not usual(got)]
    for got in refused:
        # A sale whose payment exists is under way: its client is told so, and to ask again.
        under_way = got.status == 504 and got.kind == "paid"
        expected = (504, "payment") if under_way else (503, "postgres")
        assert (got.status, got.problem.get("dependency")) == expected, got
        assert int(got.headers["Retry-After"]) >= 1
    slowest = max(answers, key=lambda got: got.took_s)
    assert slowest.took_s <= ANSWERED_WITHIN_S + disturbance_s(load, since_s), slowest
    return refused


def disturbance_s(load: Load, since_s: float) -> float:
    """What a busy machine may add: what it adds to answers that need no PostgreSQL, and more."""
    remembered = max((got.took_s for got in load.since(since_s, *REMEMBERED)), default=0.0)
    return 2 * (remembered + load.stalled_s(since_s))


async def test_silence_and_loss_under_load_cost_nobody_more_than_a_quick_refusal(
    servers: Servers,
) -> None:
    async with loaded(servers) as place:
        load, postgres, proxy = place.load, place.postgres, place.proxy
        began_s = time.monotonic()
        await proxy.hang()  # every packet is lost from now on, and nobody is told
        await asyncio.sleep(3.0)  # so long nothing comes of what is asked
        await proxy.forward()
        returned_s = time.monotonic()
        took_s = await normal_again(load, began_s) - returned_s
        assert took_s < NORMAL_WITHIN_S + disturbance_s(load, began_s)
        assert as_promised(load, began_s)

        began_s = time.monotonic()
        await asyncio.to_thread(postgres.stop)
        await asyncio.sleep(1.5 * RESTART_S)
        hopeless_s = time.monotonic()
        await until(lambda: len(unusual(load, hopeless_s)) >= 20, what="it is given up")
        # After the first seconds, in which it may be a restart, nobody waits.
        late = [got.took_s for got in unusual(load, hopeless_s)]
        assert max(late) < RESTART_S / 2 + disturbance_s(load, began_s)
        await asyncio.to_thread(postgres.start)
        returned_s = time.monotonic()
        took_s = await normal_again(load, began_s) - returned_s
        assert took_s < NORMAL_WITHIN_S + disturbance_s(load, began_s)
        as_promised(load, began_s)

        [(pooled,)] = await asyncio.to_thread(
            ask,
            postgres.url,
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'tollgate-all'",
        )
        began_s = time.monotonic()
        await asyncio.to_thread(postgres.kill)
        await asyncio.to_thread(postgres.start)
        await normal_again(load, began_s)
        # Who asked when a slow machine had made it longer than a restart was refused as above.
        refused = [got for got in as_promised(load, began_s) if got.ended_s < began_s + RESTART_S]
        assert len(refused) <= pooled
