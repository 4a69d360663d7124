"""The promise itself: several processes, the same buckets, no window with a token too many."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from fractions import Fraction
from itertools import chain
from pathlib import Path

ROOT = Path(__file__).parents[3]
PROCESSES = 3
Rate = tuple[int, int, int]
#: Tokens, period in s, burst.
RATES: tuple[Rate, ...] = ((100, 1, 20), (1000, 1, 100), (100, 1, 1), (1, 1, 1), (30, 60, 30))


async def hammer(url: str, variant: str, *rates: Rate, run_s: float = 1.5) -> list[list[int]]:
    """Server times (µs) of all admissions from the bucket of each rate, in order."""
    command = [
        sys.executable, str(Path(__file__).with_name("hammer.py")),
        url, variant, str(run_s), *(",".join(map(str, rate)) for rate in rates),
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
    found = [json.loads(output) for output, _ in outputs]
    return [sorted(chain.from_iterable(each)) for each in zip(*found, strict=True)]


def worst_excess(times_us: list[int], tokens: int, period_s: int, burst: int) -> Fraction:
    """Over every window between two admissions: admitted minus (burst + rate × window)."""
    rate = Fraction(tokens, period_s * 1_000_000)
    worst = least_before = Fraction(-burst)
    for index, time_us in enumerate(times_us):
        level = index - rate * time_us
        least_before = level if index == 0 else min(least_before, level)
        worst = max(worst, level + 1 - least_before - burst)
    return worst


async def test_no_window_admits_more_than_burst_plus_rate(redis_url: str) -> None:
    found = await hammer(redis_url, "exact", *RATES)
    for rate, times_us in zip(RATES, found, strict=True):
        assert worst_excess(times_us, *rate) <= 0, rate
        tokens, period_s, burst = rate
        # Nor less: the bucket gave what it had over the time the slowest start left. A busy machine
        # may not ask for a thousand a second.
        share = 0.5 if tokens <= 100 else 0.1
        span_s = (times_us[-1] - times_us[0]) / 1_000_000
        assert len(times_us) >= min(burst, 20) + share * span_s * tokens / period_s - 1, rate


async def test_the_check_sees_a_limiter_that_reads_before_it_writes(redis_url: str) -> None:
    rate = (100, 1, 20)
    [times_us] = await hammer(redis_url, "racing", rate)
    assert worst_excess(times_us, *rate) > 0
