"""Several processes, one bucket, ten times the rate: no window may hold a token too many.

What is checked is the worst window and not the total, from the server's own time of each decision.
Each fault of a fleet happens here while it is under load.
"""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from redis import Redis

from scripts.running import ROOT
from tests.e2e.clocks import skewed
from tests.e2e.takers import MOST_EXCESS, gives, holds, takers
from tests.e2e.valkeys import pause
from tests.e2e.windows import Limit, worst_excess

RATIOS = {
    "wide": Limit(1000, 1, 100),
    "common": Limit(100, 1, 20),
    "narrow": Limit(100, 1, 1),
    "single": Limit(1, 1, 1),
    "slow": Limit(12, 60, 1),
}
COMMON = {"common": RATIOS["common"]}
PROCESSES = 3

pytestmark = pytest.mark.timeout(120)


def test_every_ratio_holds_though_the_wall_clocks_are_apart(redis_url: str, tmp_path: Path) -> None:
    with takers(tmp_path, redis_url, RATIOS, run_s=5.3, timeout_s=5.0) as fleet:
        fleet.start_together(None, skewed(37, path=ROOT), skewed(-37, path=ROOT))
        taken = fleet.finish()
    assert taken.decided_outside_the_call() == []
    holds(taken, RATIOS)
    for name, limit in RATIOS.items():
        gives(taken, name, limit, share=0.2)


def test_burst_is_not_given_twice_across_a_seconds_edge(redis_url: str, tmp_path: Path) -> None:
    """Full buckets are emptied just before the edge, and asked for more just after it."""
    limits = {f"edge-{burst}": Limit(100, 1, burst) for burst in (1, 20, 100)}
    with takers(tmp_path, redis_url, limits, run_s=0.4, timeout_s=5.0) as fleet:
        for _ in range(PROCESSES):
            fleet.start(held=True)
        fleet.await_ready()
        pause((0.9 - time.time()) % 1)
        fleet.begin()
        taken = fleet.finish()
    holds(taken, limits)


def test_workers_killed_and_replaced_bring_no_tokens(redis_url: str, tmp_path: Path) -> None:
    limits = {**COMMON, "narrow": RATIOS["narrow"]}
    with takers(tmp_path, redis_url, limits, run_s=2.3, timeout_s=5.0) as fleet:
        fleet.start_together(*[None] * PROCESSES)
        for _ in range(PROCESSES - 1):
            fleet.kill_oldest()
            fleet.start()
            pause(0.3)
        taken = fleet.finish()
    holds(taken, limits)
    gives(taken, "common", COMMON["common"], share=0.2)


def test_forgotten_scripts_bring_no_tokens(redis_url: str, tmp_path: Path) -> None:
    with takers(tmp_path, redis_url, RATIOS, run_s=1.5, timeout_s=5.0) as fleet:
        fleet.start_together(*[None] * PROCESSES)
        with Redis.from_url(redis_url) as client:
            for _ in range(20):
                client.script_flush()
                pause(0.04)
        taken = fleet.finish()
    assert all(each.decided_us for each in taken.admissions), "decided without Redis"
    holds(taken, RATIOS)


@pytest.mark.parametrize("variant", ["racing", "fixed", "own-clock"])
def test_the_check_finds_limiters_with_the_usual_faults(
    redis_url: str, tmp_path: Path, variant: str
) -> None:
    # A race needs many at once. The other faults give a second burst; few tokens come meanwhile, so
    # that it shows however long a busy machine takes over it.
    limit, run_s = (Limit(100, 1, 100), 1.6) if variant == "racing" else (Limit(20, 1, 100), 3.0)
    limits = {"common": limit}
    with takers(tmp_path, redis_url, limits, run_s=run_s, variant=variant, timeout_s=5.0) as fleet:
        for environment in (None, None, skewed(10, path=ROOT) if variant == "own-clock" else None):
            fleet.start(environment, held=True)
        fleet.await_ready()
        fleet.begin(0, 1)
        # Last, when the bucket is empty: to a clock that is ahead it is full.
        fleet.await_admitted(limits["common"].burst)
        fleet.begin(2)
        taken = fleet.finish()
    assert worst_excess(taken.spans("common"), limits["common"]) > 5 * MOST_EXCESS


def test_the_clock_that_is_read_is_the_servers(redis_url: str, tmp_path: Path) -> None:
    """What all checks here stand on: server time lies between question and answer."""
    with takers(tmp_path, redis_url, COMMON, run_s=0.5, workers=1, timeout_s=5.0) as fleet:
        fleet.start()
        taken = fleet.finish()
    assert taken.admissions
    assert taken.decided_outside_the_call() == []
    assert all(abs(each.decided_us / 1e6 - time.time()) < 60 for each in taken.admissions)
