"""The closed forms: what is known of them exactly, and what must hold for all numbers."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as some

from scripts.capacity.queueing import Service, distinct, fit, slowdown, time_s

LOADS = some.floats(0.0, 0.999)
MIXES = some.lists(
    some.tuples(some.floats(0.1, 100.0), some.floats(1e-6, 1e-2)), min_size=1, max_size=6
)


class TestTime:
    @pytest.mark.parametrize("load", [0.3, 0.65, 0.9])
    def test_wait_is_that_of_the_exact_queue_with_one_kind_of_request(self, load: float) -> None:
        """M/M/1: P(wait > t) = load · exp(-(1 - load) t / S)."""
        service = Service.of([(1.0, 0.001)])
        wait_s = time_s(service, load) - service.mean_s
        assert load * math.exp(-(1 - load) * wait_s / 0.001) == pytest.approx(0.01)

    def test_queue_that_is_simulated_waits_as_long(self) -> None:
        """Two kinds of requests, one ten times the other: M/G/1, first come first served."""
        chance, load = random.Random(8), 0.8
        mix = [(0.9, 0.001), (0.1, 0.010)]
        service = Service.of(mix)
        free_s = now_s = 0.0
        took_s = []
        for _ in range(200_000):
            now_s += chance.expovariate(load / service.mean_s)
            mean_s = mix[chance.random() < mix[1][0]][1]
            began_s = max(now_s, free_s)
            free_s = began_s + chance.expovariate(1 / mean_s)
            took_s.append(free_s - now_s)
        p99_s = sorted(took_s)[int(len(took_s) * 0.99)]
        assert time_s(service, load) == pytest.approx(p99_s, rel=0.25)

    @given(MIXES, LOADS, LOADS)
    def test_more_load_never_takes_less_time(
        self, mix: list[tuple[float, float]], one: float, other: float
    ) -> None:
        service = Service.of(mix)
        assert time_s(service, min(one, other)) <= time_s(service, max(one, other))
        assert time_s(service, one) >= service.mean_s

    def test_full_server_never_answers(self) -> None:
        assert time_s(Service.of([(1.0, 0.001)]), 1.0) == math.inf

    def test_kinds_that_differ_wait_longer_than_their_mean_alone(self) -> None:
        alike, apart = Service.of([(1, 0.002)]), Service.of([(1, 0.001), (1, 0.003)])
        assert alike.mean_s == pytest.approx(apart.mean_s)
        assert time_s(apart, 0.8) > time_s(alike, 0.8)


class TestDistinct:
    @given(some.floats(1.0, 1e4), some.integers(1, 1_000_000))
    def test_is_at_most_both_and_at_least_one(self, drawn: float, kinds: int) -> None:
        found = distinct(drawn, kinds)
        assert 1 - 1e-9 <= found <= min(drawn, kinds) * (1 + 1e-9)

    def test_is_what_drawing_gives(self) -> None:
        chance = random.Random(8)
        drawn = [len({chance.randrange(50) for _ in range(40)}) for _ in range(2_000)]
        assert distinct(40, 50) == pytest.approx(sum(drawn) / len(drawn), rel=0.02)


class TestContention:
    @given(some.floats(0, 0.5), some.floats(0, 0.05), some.floats(1, 1_000))
    def test_fit_finds_what_made_the_costs(self, sigma: float, kappa: float, alone: float) -> None:
        costs = [(n, alone * slowdown(n, sigma, kappa)) for n in (1, 2, 3, 6)]
        assert fit(costs) == pytest.approx((sigma, kappa), abs=1e-6)

    def test_costs_that_fall_are_no_contention(self) -> None:
        assert fit([(1, 10.0), (2, 9.0), (3, 9.5), (6, 8.0)]) == (0.0, 0.0)

    def test_one_worker_alone_tells_nothing(self) -> None:
        assert fit([(1, 10.0)]) == (0.0, 0.0)

    def test_one_worker_is_not_slowed_down(self) -> None:
        assert slowdown(1, 0.3, 0.1) == 1
