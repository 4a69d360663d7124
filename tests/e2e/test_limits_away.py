"""Redis freezes or restarts under load: what each worker grants by itself is no second helping."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.takers import holds, takers
from tests.e2e.valkeys import PersistentValkey, pause
from tests.e2e.windows import Limit
from tests.support.servers import scratch_directory

COMMON = {"common": Limit(100, 1, 20)}
PROCESSES = 3

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def valkey() -> Iterator[PersistentValkey]:
    with scratch_directory() as home, PersistentValkey(home) as server:
        yield server


def test_frozen_redis_brings_no_tokens(valkey: PersistentValkey, tmp_path: Path) -> None:
    limits = {**COMMON, "single": Limit(1, 1, 1)}
    with takers(tmp_path, valkey.url, limits, run_s=3.8) as fleet:
        fleet.start_together(*[None] * PROCESSES)
        for frozen_s in (0.3, 2.0):
            valkey.suspend()
            pause(frozen_s)
            valkey.resume()
            pause(0.4)
        taken = fleet.finish()
    assert not all(each.decided_us for each in taken.admissions), "Redis was never missed"
    holds(taken, limits)


def test_redis_restarted_with_its_data_brings_no_tokens(
    valkey: PersistentValkey, tmp_path: Path
) -> None:
    with takers(tmp_path, valkey.url, COMMON, run_s=2.6) as fleet:
        fleet.start_together(*[None] * PROCESSES)
        pause(0.5)
        valkey.kill()
        pause(0.5)
        valkey.start()
        taken = fleet.finish()
    holds(taken, COMMON)
