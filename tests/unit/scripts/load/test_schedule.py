from __future__ import annotations

import random
from itertools import pairwise

import pytest

from scripts.load.schedule import (
    Constant,
    Open,
    Poisson,
    Ramp,
    Spike,
    arrivals,
    mean_rate,
)

SCHEDULES: list[Open] = [
    Constant(kind="constant", rate=50),
    Poisson(kind="poisson", rate=50),
    Ramp(kind="ramp", from_rate=0, to_rate=100),
    Ramp(kind="ramp", from_rate=80, to_rate=20),
    Spike(kind="spike", rate=20, peak=170, begins=0.4, lasts=0.2),
    Spike(kind="spike", rate=50, peak=50, begins=0, lasts=1),
]


def moments(schedule: Open, seconds: float, *, seed: int = 1, factor: float = 1) -> list[float]:
    return list(arrivals(schedule, seconds, random.Random(seed), factor=factor))


def between(found: list[float], since: float, until: float) -> int:
    return sum(since <= moment < until for moment in found)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: s.words(1))
@pytest.mark.parametrize("factor", [0.5, 1, 3])
def test_as_many_come_as_the_mean_rate_says_all_in_order_and_in_the_run(
    schedule: Open, factor: float
) -> None:
    found = moments(schedule, 40, factor=factor)

    assert mean_rate(schedule) == 50
    # A standard deviation of the random one is 2.2 % and less.
    assert len(found) == pytest.approx(40 * 50 * factor, rel=0.1)
    assert all(earlier <= later for earlier, later in pairwise(found))
    assert found[0] >= 0
    assert found[-1] < 40


def test_constant_arrivals_are_evenly_apart() -> None:
    gaps = [later - earlier for earlier, later in pairwise(moments(SCHEDULES[0], 3))]

    assert gaps == pytest.approx([0.02] * 149)


def test_a_ramp_climbs_evenly() -> None:
    found = moments(Ramp(kind="ramp", from_rate=0, to_rate=100), 10)

    # 0 to 25 a second in the first quarter: 31; 75 to 100 in the last: 219.
    assert between(found, 0, 2.5) == pytest.approx(31, abs=2)
    assert between(found, 7.5, 10) == pytest.approx(219, abs=2)


def test_a_spike_has_its_peak_where_it_says_and_nowhere_else() -> None:
    found = moments(Spike(kind="spike", rate=10, peak=200, begins=0.4, lasts=0.2), 20)

    assert between(found, 0, 8) == pytest.approx(80, abs=1)
    assert between(found, 8, 12) == pytest.approx(800, abs=1)
    assert between(found, 12, 20) == pytest.approx(80, abs=1)


def test_poisson_gaps_vary_as_those_of_independent_clients_do() -> None:
    found = moments(Poisson(kind="poisson", rate=100), 100)
    gaps = [later - earlier for earlier, later in pairwise(found)]
    mean = sum(gaps) / len(gaps)
    variance = sum((gap - mean) ** 2 for gap in gaps) / len(gaps)

    assert variance == pytest.approx(mean**2, rel=0.15)


def test_a_seed_gives_the_same_arrivals_again_and_another_one_others() -> None:
    schedule = Poisson(kind="poisson", rate=50)

    assert moments(schedule, 5, seed=7) == moments(schedule, 5, seed=7)
    assert moments(schedule, 5, seed=7) != moments(schedule, 5, seed=8)
