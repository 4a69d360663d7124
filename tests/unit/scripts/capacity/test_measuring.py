"""What measurements are made of, and the table of the model beside them."""

from __future__ import annotations

import os

import pytest

from scripts.capacity.loads import Measured, middle
from scripts.capacity.meter import Used, read_idle_s
from scripts.capacity.validate import Row, per_second, table
from scripts.load.watching.info import Told


def used(seconds: float, workers_s: float, *, calls: int = 0, idle_s: float = 0.0) -> Used:
    return Used(
        seconds=seconds,
        cpu_s={"workers": workers_s, "redis": 0.5},
        generator_s=1.0,
        idle_s=idle_s,
        redis=Told(commands=calls, bytes=calls * 200, used_memory=5, cpu_s=0.5),
        commits=calls,
        wal_bytes=calls * 100.0,
        queries=calls,
        payment_calls=0.0,
    )


def row(workers: int, measured_us: float, per_s: float) -> Row:
    return Row(
        route="health", workers=workers, predicted_us=50.0, measured_us=measured_us,
        others_us=10.0, cores=2.0, predicted_per_s=20_000.0, measured_per_s=per_s, p99_ms=5.0,
    )  # fmt: skip


class TestUsed:
    def test_what_a_resting_service_does_anyway_is_subtracted_for_as_long(self) -> None:
        left = used(10.0, 3.0, calls=100).less(used(5.0, 0.5, calls=20))
        assert left.cpu_s == {"workers": 2.0, "redis": 0.0}
        assert (left.redis.commands, left.queries, left.wal_bytes) == (60, 60.0, 6_000.0)

    def test_noise_never_makes_a_cost_negative(self) -> None:
        left = used(1.0, 0.0).less(used(1.0, 0.5, calls=20))
        assert (left.cpu_s["workers"], left.redis.commands, left.commits) == (0.0, 0, 0.0)

    def test_cores_to_be_had_are_ours_and_the_idle_ones(self) -> None:
        assert used(2.0, 1.5, idle_s=1.0).cores == pytest.approx(2.0)

    def test_idle_time_is_read_of_all_cores_with_waiting_for_disks(self) -> None:
        stat = "cpu  1 2 3 400 50 6 7 8 0 0\ncpu0 1 2 3 200 5 6 7 8 0 0\n"
        assert read_idle_s(stat) == 450 / os.sysconf("SC_CLK_TCK")


class TestMeasured:
    def test_run_in_the_middle_counts(self) -> None:
        runs = [Measured(1_000, 1.0, 1.0, used(1.0, cost_s)) for cost_s in (0.9, 0.1, 0.2)]
        assert middle(runs).us("workers") == pytest.approx(200.0)


class TestForetold:
    def test_few_workers_are_bound_by_their_own_core_each(self) -> None:
        assert per_second(1, 2.0, 50.0, 10.0) == pytest.approx(20_000)

    def test_many_workers_are_bound_by_the_cores_all_share(self) -> None:
        assert per_second(6, 2.0, 50.0, 10.0) == pytest.approx(2 / 60 * 1e6)

    def test_table_tells_errors_and_growth(self) -> None:
        shown = table([row(1, 50.0, 16_000), row(2, 55.0, 24_000), row(6, 60.0, 25_000)])
        assert "| `/health` | 1 | 50 µs | 50 µs | 2.00 | 20,000 | 16,000 | +25% | 5 ms |" in shown
        assert "1.10 at 2, 1.20 at 6. Two workers by CPU: 1.82 x one (goal 1.7)" in shown
        assert "1.50 x." in shown
