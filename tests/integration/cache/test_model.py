"""Random interleavings on the real scripts and a real server, and wrong caches seen."""

from __future__ import annotations

import pytest
import redis
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from structlog.testing import capture_logs

from service.cache.cache import TieredCache
from service.errors import StoreUnavailable
from tests.support.breaker import Fault
from tests.support.broken.cache import BROKEN_CACHES
from tests.support.cache_machine import CacheMachine

STEPS = settings(
    max_examples=100,
    stateful_step_count=25,
    deadline=None,
    database=None,
    derandomize=True,
    # Shrinking takes minutes; a history of 25 steps can be read as it is.
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine decides when somebody looks again, not a timer."""
    monkeypatch.setattr("service.cache.fleet._FIRST_LOOK_S", 0)
    monkeypatch.setattr("service.cache.fleet._LAST_LOOK_S", 0)
    monkeypatch.setattr("service.cache.owed.AGAIN_S", 0)


def run_machine(url: str, fault: Fault | type[TieredCache] | None, how: settings) -> None:
    with redis.Redis.from_url(url) as client, capture_logs():
        fields = {"client": client, "fault": fault}
        run_state_machine_as_test(type("Fleet", (CacheMachine,), fields), settings=how)


def test_no_history_brings_back_what_was_changed(redis_url: str) -> None:
    run_machine(redis_url, None, STEPS)


FAULTS = {
    "store without looking at the version": Fault("put", "~= ARGV[1] then", "== 'never' then"),
    "invalidation keeps the version": Fault(
        "invalidate", "math.max(tonumber(fence[1] or 0) + 1, now)", "tonumber(fence[1] or now)"
    ),
    "invalidation keeps the value": Fault("invalidate", "redis.call('DEL', KEYS[1])", ""),
    "any change counts as told": Fault(
        "invalidate", "if string.find(changes, '\\n' .. ARGV[4] .. '\\n', 1, true) then",
        "if fence[2] then",
    ),
    "a lease for everybody": Fault("get", "if free then", "if true then"),
}  # fmt: skip


@pytest.mark.parametrize("fault", [*FAULTS.values(), *BROKEN_CACHES.values()],
                         ids=[*FAULTS, *BROKEN_CACHES])  # fmt: skip
def test_one_fault_is_seen(redis_url: str, fault: Fault | type[TieredCache]) -> None:
    with pytest.raises((AssertionError, StoreUnavailable)):
        # It ends with the first history that shows it, which is mostly among the first hundred.
        run_machine(redis_url, fault, settings(STEPS, max_examples=400))
