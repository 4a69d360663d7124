"""The promise itself: several processes, one bucket, and no window with a token too many."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from fractions import Fraction
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PROCESSES = 3


async def hammer(
    url: str, variant: str, rate: tuple[int, int, int], run_s: float = 1.5
) -> list[int]:
    """Server times (µs) of all admissions, in order."""
    command = [
        sys.executable, str(Path(__file__).with_name("hammer.py")),
        url, variant, *map(str, rate), str(run_s),
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    started = [
        await asyncio.create_subprocess_exec(
            *command, stdout=asyncio.subprocess.PIPE, env=environment
        )
        for _ in range(PROCESSES)
    ]
    outputs = [await process.communicate() for process in started]
    assert [process.returncode for process in started] == [0] * PROCESSES
    return sorted(time for output, _ in outputs for time in json.loads(output))


def worst_excess(times_us: list[int], tokens: int, period_s: int, burst: int) -> Fraction:
    """Over every window between two admissions: admitted minus (burst + rate × window)."""
    rate = Fraction(tokens, period_s * 1_000_000)
    worst = least_before = Fraction(-burst)
    for index, time_us in enumerate(times_us):
        level = index - rate * time_us
        least_before = level if index == 0 else min(least_before, level)
        worst = max(worst, level + 1 - least_before - burst)
    return worst


@pytest.mark.parametrize(
    "rate", [(100, 1, 20), (1000, 1, 100), (100, 1, 1), (1, 1, 1), (30, 60, 30)], ids=str
)
async def test_no_window_admits_more_than_burst_plus_rate(
    redis_url: str, rate: tuple[int, int, int]
) -> None:
    times_us = await hammer(redis_url, "exact", rate)
    assert worst_excess(times_us, *rate) <= 0
    tokens, period_s, burst = rate
    # Nor less: the bucket gave what it had over the time the slowest start left.
    span_s = (times_us[-1] - times_us[0]) / 1_000_000
    assert len(times_us) >= min(burst, 20) + 0.5 * span_s * tokens / period_s - 1


async def test_the_check_sees_a_limiter_that_reads_before_it_writes(redis_url: str) -> None:
    rate = (100, 1, 20)
    assert worst_excess(await hammer(redis_url, "racing", rate), *rate) > 0
