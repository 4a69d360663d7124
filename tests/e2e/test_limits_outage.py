"""Redis goes away under load and comes back, with what it knew or empty: no second burst.

``make chaos-limits`` lets it stay away for 20 s (OUTAGE_SECONDS).
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from scripts.devservers import EmbeddedValkey
from service.admission.limiter import HEARTBEAT_S
from tests.e2e.crowd import crowd
from tests.e2e.replicas import Replica, replicas
from tests.e2e.valkeys import PersistentValkey
from tests.e2e.windows import Limit, worst_excess
from tests.support.servers import Servers, scratch_directory
from tests.support.waiting import until

AWAY_S = float(os.environ.get("OUTAGE_SECONDS", "3"))
#: Until Redis decides again: a second or two, and more on a busy machine.
RECOVERY_S = 30.0
LIMIT = Limit(100, 1, 100)
#: Four workers may each have one token of rounding in hand when two ways of counting meet.
MOST = 1

pytestmark = pytest.mark.timeout(120 + 2 * AWAY_S)


@pytest.fixture(params=[PersistentValkey, EmbeddedValkey], ids=["with its data", "empty"])
def valkey(request: pytest.FixtureRequest) -> Iterator[EmbeddedValkey]:
    with scratch_directory() as home, request.param(home) as server:
        yield server


async def recovered(fleet: list[Replica]) -> float:
    """When every worker that had gone on by itself has come back to asking Redis."""

    def times(event: str) -> int:
        return sum(len(replica.entries(event)) for replica in fleet)

    await until(
        lambda: times("limiter_recovered") >= times("limiter_degraded"), within_s=RECOVERY_S
    )
    return time.monotonic()


async def test_fleet_keeps_its_bound_while_redis_is_away(
    servers: Servers, valkey: EmbeddedValkey
) -> None:
    with ExitStack() as stack:
        fleet = stack.enter_context(
            replicas(
                stack.enter_context(scratch_directory()),
                stack.enter_context(servers.cloned_database()),
                [valkey.url] * 2,
                {"health": LIMIT},
            )
        )
        before_s = HEARTBEAT_S + 0.5  # until each worker has counted all the others
        over = asyncio.Event()
        load = asyncio.create_task(
            crowd(
                [replica.port for replica in fleet], "/health", "198.51.100.4",
                run_s=before_s + AWAY_S + RECOVERY_S, connections=16, pace_s=0.02, over=over,
            )
        )  # fmt: skip
        await asyncio.sleep(before_s)
        valkey.kill()
        killed_s = time.monotonic()
        await asyncio.sleep(AWAY_S)
        await asyncio.to_thread(valkey.start)
        back_s = time.monotonic()
        recovered_s = await recovered(fleet)
        await asyncio.sleep(3.0)  # some decisions of the fleet again
        over.set()
        replies = await load
    assert (replies.unexpected(), replies.lost) == (set(), 0)
    spans = replies.spans()
    # What an empty Redis gives anew, once, is documented: one burst for each client it forgot.
    forgotten = 0 if isinstance(valkey, PersistentValkey) else LIMIT.burst
    seconds = (spans[-1].until_us - spans[0].since_us) / 1_000_000
    excess = worst_excess(spans, LIMIT)
    print(
        f"away for {back_s - killed_s:.1f} of {seconds:.1f} s: {len(spans)} admitted, bound"
        f" {LIMIT.most_in(seconds) + forgotten:.0f}; worst window {float(excess):+.1f} tokens,"
        f" up to {forgotten} of them forgotten with the data"
    )
    assert len(spans) <= LIMIT.most_in(seconds) + forgotten + MOST
    assert excess <= forgotten + MOST
    # Refusing everything would be easy.
    assert replies.admitted_between(killed_s, back_s) >= 0.1 * LIMIT.tokens * AWAY_S
    assert replies.admitted_between(recovered_s, recovered_s + 4.0) >= 0.3 * LIMIT.tokens
