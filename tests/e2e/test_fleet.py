"""The promise of a fleet: what happens to its replicas is no affair of its clients.

Three replicas of two workers behind nginx, mixed load with purchases, kept-alive connections and
new ones. No client here repeats a request that failed, as aiohttp's would for GET.
"""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import pairwise

import pytest

from scripts.chaos import records
from scripts.chaos.audit import audit
from scripts.chaos.purchaser import Offer, Purchasers
from scripts.chaos.tally import Tally
from tests.e2e.conftest import ask
from tests.e2e.crowd import Replies, crowd
from tests.e2e.fleets import LIMIT, LIMITED_PATH, NEEDS_NGINX, REPLICAS, Fleet, fleet
from tests.e2e.load import Load, mixed_load
from tests.e2e.windows import worst_excess
from tests.support.servers import Servers
from tests.support.waiting import eventually, until

pytestmark = [NEEDS_NGINX, pytest.mark.timeout(180)]

TEXT = "Bees make honey. Bees live in hives. A hive has one queen. Rain falls in spring."
OFFERS = (
    Offer("text-summary", {"text": TEXT}),
    Offer("text-summary+free", {"text": TEXT}, free=True),
)
#: Tokens by which a window may be overdrawn.
MOST = 1
PURCHASERS = 3
#: Of each client; what is tried is not how much the machine can carry.
PAUSE_S = 0.1


@pytest.fixture(scope="module")
def behind_nginx(servers: Servers) -> Iterator[Fleet]:
    with fleet(servers) as made:
        yield made


@dataclass(frozen=True, slots=True)
class Traffic:
    load: Load
    tally: Tally
    crowd: asyncio.Task[Replies]
    over: asyncio.Event


@asynccontextmanager
async def traffic(fleet: Fleet, *, purchasers: int = PURCHASERS) -> AsyncIterator[Traffic]:
    """Mixed load, purchasers and a crowd at its limit; then the books are audited."""
    body = json.dumps({"input_data": {"text": TEXT}}).encode()
    job = ask(f"{fleet.url}/text-summary+free/start_job", body)
    assert job.status == 200, job.body
    tally, over = Tally(), asyncio.Event()
    async with Purchasers([fleet.url], tally, random.Random(7)) as buyers:
        async with mixed_load(fleet.url, job.body["id"], clients=1, pause_s=PAUSE_S) as load:
            for session in load.sessions:
                session._retry_connection = False
            buying = [
                asyncio.create_task(_keep_buying(buyers, over, number))
                for number in range(purchasers)
            ]
            asking = asyncio.create_task(
                crowd([fleet.port], LIMITED_PATH, "203.0.113.1", run_s=100, connections=4,
                      pace_s=0.08, over=over)
            )  # fmt: skip
            yield Traffic(load, tally, asking, over)
            over.set()
            await asking
        async with asyncio.timeout(60):
            while not all(task.done() for task in buying) or records.open_jobs(fleet):
                records.hasten(fleet)
                await asyncio.sleep(0.2)
            await asyncio.gather(*buying)
        await buyers.look_again()
        told = [purchase.told() for purchase in buyers.purchases]
    assert audit(records.books(fleet, told)) == ()
    assert tally.finished_after_s


async def _keep_buying(purchasers: Purchasers, over: asyncio.Event, number: int) -> None:
    bought = number
    while not over.is_set():
        await purchasers.buy(OFFERS[bought % len(OFFERS)])
        bought += 1


async def test_rolling_restart_of_all_replicas_is_noticed_by_no_client(
    behind_nginx: Fleet,
) -> None:
    before = behind_nginx.masters()
    async with traffic(behind_nginx) as told:
        done = await asyncio.to_thread(behind_nginx.command, "restart")
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stdout.count("ready again") == REPLICAS
        behind_nginx.await_all_ready()
        replies = await _end_of(told)
    assert not set(before) & set(behind_nginx.masters()), "each is another one now"
    away = [
        (behind_nginx.entries(number, "worker_leaving")[0]["timestamp"],
         behind_nginx.entries(number, "worker_ready")[-1]["timestamp"])
        for number in range(1, REPLICAS + 1)
    ]  # fmt: skip
    assert all(ready < left for (_, ready), (left, _) in pairwise(away)), "one by one"
    assert [got for got in told.load.answers if got.status not in {200, 404}] == []
    assert {got.kind for got in told.load.answers if got.status == 404} <= {"lookup"}
    assert len({got.kind for got in told.load.answers}) == 6
    assert dict(told.tally.refusals) == {}
    _expect_bound(replies)
    assert replies.lost == 0


async def test_kill_of_a_replica_fails_only_what_was_in_flight_in_it(behind_nginx: Fleet) -> None:
    # So that in each replica there is something in flight.
    behind_nginx.order_fault(route="POST /payment", kind="latency", when="before", seconds=1.5)
    kills: list[tuple[float, float]] = []
    async with traffic(behind_nginx, purchasers=4 * REPLICAS) as told:
        # A machine that stands still may leave nothing in flight: then the next kill hits.
        while not told.tally.refusals["502 no-replica"]:
            await asyncio.sleep(0.7)  # half of what a payment call takes: each has one in flight
            lives = len(behind_nginx.entries(1, "serving"))
            began_s = time.monotonic()
            await asyncio.to_thread(behind_nginx.kill, 1)
            killed_s = time.monotonic()
            kills.append((began_s, killed_s))
            await asyncio.to_thread(
                eventually,
                lambda: len(behind_nginx.entries(1, "serving")) > lives,  # noqa: B023
                within_s=60, what="it is started again",
            )  # fmt: skip
            await asyncio.to_thread(behind_nginx.await_all_ready)
        await until(lambda: len(told.load.since(killed_s)) > 50, what="the others go on")
        replies = await _end_of(told)
    failed = [got for got in told.load.answers if got.status not in {200, 404, 409}]
    assert all(
        any(got.began_s <= killed_s and began_s <= got.ended_s for began_s, killed_s in kills)
        for got in failed
    ), (kills, failed)
    # nginx asks another replica for a GET; of a POST, which may have been received, it says so.
    assert {got.kind for got in failed} <= {"free", "paid"}
    assert {got.problem.get("type") for got in failed} <= {"urn:tollgate:problem:no-replica"}
    refused = told.tally.refusals["502 no-replica"]
    assert refused <= 4 * REPLICAS * len(kills), "one each at most"
    assert set(told.tally.refusals) <= {"502 no-replica", "409 request-in-progress"}
    _expect_bound(replies)


async def test_restart_says_so_when_no_fleet_runs(behind_nginx: Fleet) -> None:
    elsewhere = Fleet(behind_nginx.running, "", behind_nginx.home / "nginx")
    done: subprocess.CompletedProcess[str] = await asyncio.to_thread(elsewhere.command, "restart")
    assert done.returncode == 1
    assert "No fleet is running" in done.stderr


async def _end_of(told: Traffic) -> Replies:
    told.over.set()
    return await told.crowd


def _expect_bound(replies: Replies) -> None:
    assert replies.unexpected() == set()
    assert worst_excess(replies.spans(), LIMIT) <= MOST
    assert any(reply.refused for reply in replies.known)
    assert len(replies.spans()) > 2 * LIMIT.burst
