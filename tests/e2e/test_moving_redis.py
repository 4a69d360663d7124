"""A running fleet moves from one Redis to a cluster, as docs/operations.md says.

While some replicas count on the old one and some on the new one, a principal has two buckets: each
of them keeps the limit, so together they give what the document says and no more.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest
import redis

from scripts.fleet import control
from scripts.running import ROOT
from scripts.stack import stack
from scripts.valkey import EmbeddedValkey
from tests.e2e.conftest import ask
from tests.e2e.crowd import Replies, crowd
from tests.e2e.fleets import _SETTINGS, LIMIT, LIMITED_PATH, NEEDS_NGINX, Fleet
from tests.e2e.windows import Limit, worst_excess
from tests.support.cluster import ValkeyCluster, valkey_cluster
from tests.support.servers import Servers, scratch_directory
from tests.support.waiting import eventually

pytestmark = [NEEDS_NGINX, pytest.mark.timeout(180)]

#: Tokens by which a window may be overdrawn.
MOST = 1
TWO_BUCKETS = Limit(2 * LIMIT.tokens, LIMIT.period_s, 2 * LIMIT.burst)


@dataclass(frozen=True, slots=True)
class Moving:
    fleet: Fleet
    old: EmbeddedValkey
    new: ValkeyCluster

    def restart(self, **settings: str) -> subprocess.CompletedProcess[str]:
        """``make fleet-restart`` with these variables in its environment."""
        return subprocess.run(
            [sys.executable, "-m", "scripts.fleet", "restart", "--data", str(self.fleet.home)],
            cwd=ROOT, capture_output=True, text=True, check=False, timeout=120,
            env={**os.environ, **settings},
        )  # fmt: skip

    def decided_by_the_old(self) -> int:
        stats = redis.Redis(port=self.old.port).info("commandstats")
        return sum(stats.get(f"cmdstat_{name}", {}).get("calls", 0) for name in ("evalsha", "eval"))


@pytest.fixture(scope="module")
def moving(servers: Servers) -> Iterator[Moving]:
    program = ("scripts.fleet", "up", "--replicas", "2", "--workers", "1")
    with ExitStack() as on_exit:
        cluster = on_exit.enter_context(valkey_cluster())
        old = servers.private_valkey()
        on_exit.callback(old.stop)
        url = on_exit.enter_context(servers.cloned_database())
        settings = {
            **_SETTINGS,
            "TOLLGATE_DATABASE__URL": url,
            "TOLLGATE_REDIS__URL": old.url,
            # What asks here makes its connections itself, and nginx repeats a GET.
            "TOLLGATE_SERVER__IDLE_LINGER": "0.5",
        }
        home = on_exit.enter_context(scratch_directory())
        running = on_exit.enter_context(stack(home, settings, program=program))
        yield Moving(Fleet(running, url, home), old, cluster)


def asking(moving: Moving, over: asyncio.Event) -> asyncio.Task[Replies]:
    """One principal, always at its limit."""
    return asyncio.create_task(
        crowd([moving.fleet.port], LIMITED_PATH, "", run_s=100, connections=4, pace_s=0.08,
              over=over)
    )  # fmt: skip


async def test_settings_that_are_wrong_are_told_and_nothing_restarts(moving: Moving) -> None:
    masters = _masters(moving)
    done = await asyncio.to_thread(moving.restart, TOLLGATE_REDIS__TIMEOUT="soon")
    assert done.returncode == 1
    assert "redis.timeout" in done.stdout
    assert _masters(moving) == masters


async def test_a_replica_that_cannot_start_so_is_started_as_before_and_the_others_serve(
    moving: Moving,
) -> None:
    masters, over = _masters(moving), asyncio.Event()
    crowd = asking(moving, over)
    # No settings are wrong: it is only that nothing can be sold without it.
    done = await asyncio.to_thread(moving.restart, TOLLGATE_PAYMENT__URL="")
    over.set()
    replies = await crowd
    assert done.returncode == 1
    assert "payment.url" in done.stdout
    assert (replies.lost, replies.unexpected()) == (0, set())
    await asyncio.to_thread(eventually, lambda: _masters(moving)[0] != masters[0], within_s=40)
    await asyncio.to_thread(eventually, lambda: _ready(moving) == 2, within_s=40)
    assert _masters(moving)[1] == masters[1]


async def test_nobody_notices_the_move_and_no_principal_gets_more_than_two_buckets_hold(
    moving: Moving,
) -> None:
    over = asyncio.Event()
    crowd = asking(moving, over)
    await asyncio.sleep(3)  # so long is it asked before
    assert moving.decided_by_the_old() > 0
    began_s = time.monotonic()
    done = await asyncio.to_thread(moving.restart, TOLLGATE_REDIS__URL=moving.new.url)
    assert done.returncode == 0, done.stdout + done.stderr
    moved_s = time.monotonic()
    decided = moving.decided_by_the_old()
    await asyncio.sleep(3)  # and after
    over.set()
    replies = await crowd

    assert (replies.lost, replies.unexpected()) == (0, set())
    assert any(reply.refused for reply in replies.known)
    spans = replies.spans()
    excess = float(worst_excess(spans, LIMIT))
    extra = LIMIT.burst + LIMIT.tokens * (moved_s - began_s) / LIMIT.period_s
    print(f"moved in {moved_s - began_s:.1f} s; worst window {excess:+.1f} tokens of {extra:.0f}")
    assert worst_excess(spans, TWO_BUCKETS) <= MOST
    for since_s, until_s in ((0.0, began_s), (moved_s, time.monotonic())):
        there = [s for s in spans if since_s < s.since_us / 1e6 and s.until_us / 1e6 < until_s]
        assert len(there) > LIMIT.tokens / 2
        assert worst_excess(there, LIMIT) <= MOST
    assert moving.decided_by_the_old() == decided, "nobody asks the old one any more"


async def test_then_the_old_one_may_go(moving: Moving) -> None:
    moving.old.stop()
    over = asyncio.Event()
    crowd = asking(moving, over)
    await asyncio.sleep(1)  # so long is it asked
    over.set()
    replies = await crowd
    assert (replies.lost, replies.unexpected()) == (0, set())
    assert worst_excess(replies.spans(), LIMIT) <= MOST
    events = [moving.fleet.entries(number, "limiter_degraded") for number in (1, 2)]
    assert events == [[], []]


def _ready(moving: Moving) -> int:
    note = control.read(moving.fleet.home)
    assert note
    ready = 0
    for replica in note.replicas:
        with contextlib.suppress(OSError):
            ready += ask(f"{replica['internal_url']}/readyz").status == 200
    return ready


def _masters(moving: Moving) -> list[int]:
    return [moving.fleet.entries(number, "serving")[-1]["master"] for number in (1, 2)]
