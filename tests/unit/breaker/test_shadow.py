"""A worker's own breaker: the fleet's rules, in one process and with a clock of the test's."""

from __future__ import annotations

import pytest

from service.breaker.models import Outcome, Permit
from service.breaker.shadow import ShadowBreaker
from service.errors import CircuitOpen
from service.settings import BreakerSettings

SETTINGS = BreakerSettings(failure_threshold=3, recovery_seconds=30, probe_lease_seconds=9)


class Clock:
    now_s = 50.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def shadow(clock: Clock) -> ShadowBreaker:
    return ShadowBreaker(SETTINGS, clock=clock)


def call(shadow: ShadowBreaker, *outcomes: Outcome) -> None:
    for number, outcome in enumerate(outcomes):
        shadow.report(shadow.acquire(f"t{number}"), outcome)


def fail(shadow: ShadowBreaker) -> None:
    call(shadow, *[Outcome.FAIL] * 3)


def refused(shadow: ShadowBreaker) -> float | None:
    """The told wait, or None if a permit was given."""
    with pytest.raises(CircuitOpen) as caught:
        shadow.acquire("next")
    return caught.value.retry_after_s


def test_opens_after_failures_in_a_row_and_tells_the_wait(
    shadow: ShadowBreaker, clock: Clock
) -> None:
    call(shadow, Outcome.FAIL, Outcome.FAIL, Outcome.OK, Outcome.FAIL, Outcome.FAIL)
    assert shadow.snapshot().state == "closed"
    call(shadow, Outcome.NEUTRAL, Outcome.FAIL)
    assert refused(shadow) == 30
    clock.now_s += 29
    assert refused(shadow) == pytest.approx(1)


def test_one_probe_after_recovery_closes_or_opens_again(
    shadow: ShadowBreaker, clock: Clock
) -> None:
    fail(shadow)
    clock.now_s += 30
    assert shadow.snapshot().state == "half-open"
    probe = shadow.acquire("probe")
    assert refused(shadow) == 1
    shadow.report(probe, Outcome.FAIL)
    assert refused(shadow) == 30
    clock.now_s += 30
    shadow.report(shadow.acquire("probe 2"), Outcome.OK)
    assert shadow.snapshot().state == "closed"


def test_neutral_probe_is_no_verdict_and_frees_the_place(
    shadow: ShadowBreaker, clock: Clock
) -> None:
    fail(shadow)
    clock.now_s += 30
    call(shadow, Outcome.NEUTRAL)
    assert shadow.snapshot().state == "half-open"
    shadow.acquire("another")


def test_probe_that_never_reports_is_replaced_after_its_lease(
    shadow: ShadowBreaker, clock: Clock
) -> None:
    fail(shadow)
    clock.now_s += 30
    lost = shadow.acquire("lost")
    clock.now_s += 9
    taken_over = shadow.acquire("next")
    shadow.report(lost, Outcome.OK)
    assert shadow.snapshot().state == "half-open"
    shadow.report(taken_over, Outcome.OK)
    assert shadow.snapshot().state == "closed"


def test_late_report_of_an_older_generation_changes_nothing(
    shadow: ShadowBreaker, clock: Clock
) -> None:
    late = [shadow.acquire(f"late{n}") for n in range(4)]
    fail(shadow)
    clock.now_s += 30
    shadow.report(shadow.acquire("probe"), Outcome.OK)
    for permit in late:
        shadow.report(permit, Outcome.FAIL)
    assert shadow.snapshot().state == "closed"
    assert shadow.snapshot().streak == 0


def test_only_the_probes_own_report_is_a_verdict(shadow: ShadowBreaker, clock: Clock) -> None:
    fail(shadow)
    clock.now_s += 30
    probe = shadow.acquire("probe")
    shadow.report(Permit(probe.generation, "stranger", "local"), Outcome.OK)
    assert shadow.snapshot().state == "half-open"


def test_it_follows_the_fleets_breaker(shadow: ShadowBreaker, clock: Clock) -> None:
    shadow.mirror_open(12)
    assert refused(shadow) == 12
    shadow.mirror_closed()
    shadow.acquire("x")
    for outcome in (Outcome.FAIL, Outcome.FAIL, Outcome.OK, *[Outcome.FAIL] * 2):
        shadow.observe(outcome)
    shadow.acquire("x")
    shadow.observe(Outcome.FAIL)
    assert refused(shadow) == 30


def test_a_late_success_does_not_close_it(shadow: ShadowBreaker) -> None:
    fail(shadow)
    shadow.observe(Outcome.OK)
    assert refused(shadow) == 30


def test_pause_holds_callers_back_and_is_never_shortened(
    shadow: ShadowBreaker, clock: Clock
) -> None:
    shadow.pause(10)
    shadow.pause(2)
    assert refused(shadow) == 10
    assert shadow.snapshot().state == "closed"
    clock.now_s += 10
    shadow.acquire("x")
