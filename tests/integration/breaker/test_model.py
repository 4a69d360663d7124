"""Random histories of a fleet on the real scripts and a real server, and wrong scripts seen."""

from __future__ import annotations

import pytest
import redis
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from structlog.testing import capture_logs

from tests.support.breaker import Fault
from tests.support.breaker_machine import FleetMachine

STEPS = settings(
    max_examples=80,
    stateful_step_count=40,
    deadline=None,
    database=None,
    derandomize=True,
    # Shrinking takes minutes; a history of forty steps can be read as it is.
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


#: Thousands of questions, one after the other, on a machine that may be busy with much else.
pytestmark = pytest.mark.timeout(240)


def run_machine(url: str, fault: Fault | None, how: settings) -> None:
    with redis.Redis.from_url(url) as client, capture_logs():
        fields = {"client": client, "fault": fault}
        run_state_machine_as_test(type("Fleet", (FleetMachine,), fields), settings=how)


def test_every_history_goes_as_the_rules_say(redis_url: str) -> None:
    run_machine(redis_url, None, STEPS)


FAULTS = {
    "no generation fence": Fault("report", "generation ~= tonumber(ARGV[1]) or ", ""),
    "no token fence": Fault("report", "probe ~= token", "false"),
    "report sent again counts again": Fault(
        "report", "string.find(' ' .. streak .. ' ', ' ' .. member .. ' ', 1, true)", "false"
    ),
    "neutral keeps the probe": Fault(
        "report", "redis.call('HDEL', KEYS[1], 'probe', 'probe_until', 'probe_for')\n  return",
        "return",
    ),
    "neutral closes": Fault(
        "report", "if outcome == 'ok' then\n    return", "if outcome ~= 'fail' then return"
    ),
    "opens one too early": Fault("report", "spaces + 1 >=", "spaces + 2 >="),
    "opens one too late": Fault("report", "spaces + 1 >=", "spaces >="),
    "success does not start the count again": Fault(
        "report", "redis.call('HDEL', KEYS[1], 'streak')\n", "\n"
    ),
    "the count outlives the opening": Fault("report", "KEYS[1], 'streak', 'probe',",
                                            "KEYS[1], 'probe',"),
    "opening keeps the generation": Fault(
        "report", "generation = math.max(generation + 1, now)\n", "\n"
    ),
    "reports count under a force": Fault("report", "or state == 'open' or force then",
                                         "or state == 'open' then"),
    "transition without event": Fault(
        "report", "redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[10], '*',", "local _ = type("
    ),
    "twin probes": Fault("acquire", "if now < probe_until then", "if false then"),
    "lease without end": Fault("acquire", "if now < probe_until then", "if probe then"),
    "half-open not entered": Fault("acquire", "move(state, 'half-open', cause,",
                                   "move(state, 'open', cause,"),
    "probe before recovery": Fault("acquire", "if now < shut_until then",
                                   "if now + 1000000 < shut_until then"),
    "generation starts again after a loss": Fault(
        "acquire", "generation = math.max(generation + 1, now)", "generation = generation + 1"
    ),
    "takeover keeps the generation": Fault(
        "acquire", "generation = math.max(generation + 1, now)",
        "generation = generation == 0 and now or generation"
    ),
    "question sent again is another's": Fault("acquire", "if probe == token then",
                                              "if false then"),
    "a clock set back lengthens waits": Fault("acquire", "if till > latest then",
                                              "if false then"),
    "a clock set back is forgotten": Fault(
        "acquire", "redis.call('HSET', KEYS[1], field, string.format('%.0f', till))", ""
    ),
    "forced open lets through": Fault("acquire", "if force == 'open' then", "if false then"),
    "force without end": Fault("acquire", "if force and now >= force_until then",
                               "if false then"),
    "wait told too short": Fault("acquire", "(till - now) / 1000", "(till - now) / 2000"),
    "pause forgotten": Fault(
        "acquire", "math.max(pause_until, state", "math.max(now < pause_until and 0 or 0, state"
    ),
    "reset keeps the generation": Fault(
        "force", "math.max(tonumber(stored[2] or 0) + 1, now)", "tonumber(stored[2] or 0)"
    ),
    "force leaves the probe's permit": Fault(
        "force", "redis.call('HDEL', KEYS[1], 'streak', 'probe', 'probe_until', 'probe_for')", ""
    ),
    "shorter pause ends a longer one": Fault("pause", "if asked_until > held_until then",
                                             "if true then"),
    "peek shows open for ever": Fault("peek", "and left(5) == 0", "and false"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_one_wrong_line_in_a_script_is_seen(redis_url: str, fault: Fault) -> None:
    with pytest.raises((AssertionError, redis.ResponseError, ValueError)):
        run_machine(redis_url, fault, STEPS)
