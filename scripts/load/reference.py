"""ab and wrk, where they are installed: do they measure the same as we?"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass

from scripts.bench.load import MARGIN_S, LoadFailed, read_wrk
from scripts.load.record import Reference
from scripts.load.scenario import Scenario
from scripts.load.schedule import Closed

#: More of them than cores take time from the service they share those with: with 12 threads on two
#: cores wrk had 14,500 answers a second, with 2 it had 22,000, of the same fleet.
_WRK_THREADS = min(12, os.cpu_count() or 1)


@dataclass(frozen=True, slots=True)
class Measured:
    command: str
    per_second: float
    p50_ms: float
    p99_ms: float


def measure(scenario: Scenario, url: str, *, seconds: float) -> Measured | None:
    """None where the scenario has none, or the program is not installed; raises LoadFailed."""
    program = scenario.reference
    if program is None or shutil.which(program) is None:
        return None
    group = scenario.groups[0]
    connections, address = group.connections, url + group.routes[0].path
    if program == "ab":
        wanted = group.schedule.requests if isinstance(group.schedule, Closed) else None
        command = ["ab", "-q", "-n", str(wanted or 1000), "-c", str(connections), address]
    else:
        threads = min(_WRK_THREADS, connections)
        length = f"{max(1, round(seconds))}s"
        command = [
            *("wrk", f"-t{threads}", f"-c{connections}", f"-d{length}", "--latency", address)
        ]
    text = _output(command, seconds)
    figures = read_ab(text) if program == "ab" else _wrk(text)
    return Measured(" ".join(command), *figures)


def together(before: Measured, after: Measured, *, ours_per_second: float) -> Reference:
    """What it measured before our run and after it: what changed meanwhile evens out."""
    return Reference(
        program=before.command.partition(" ")[0],
        command=before.command,
        per_second=(before.per_second + after.per_second) / 2,
        p50_ms=(before.p50_ms + after.p50_ms) / 2,
        p99_ms=(before.p99_ms + after.p99_ms) / 2,
        ours_per_second=ours_per_second,
    )


def read_ab(text: str) -> tuple[float, float, float]:
    """Answers per second, 50th and 99th percentile; raises LoadFailed where some did not come."""
    rate = re.search(r"^Requests per second:\s+([\d.]+)", text, re.MULTILINE)
    failed = re.search(r"\((?=.*(?:Connect|Receive|Exceptions): [1-9])", text)
    shares = dict(re.findall(r"^\s+(\d+)%\s+(\d+)", text, re.MULTILINE))
    if not rate or failed or not {"50", "99"} <= shares.keys():
        raise LoadFailed(f"ab says:\n{text}")
    return float(rate[1]), float(shares["50"]), float(shares["99"])


def _wrk(text: str) -> tuple[float, float, float]:
    outcome = read_wrk(text)
    return outcome.per_second, outcome.p50_ms, outcome.p99_ms


def _output(command: list[str], seconds: float) -> str:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=seconds + MARGIN_S
        )
    except subprocess.CalledProcessError as error:
        raise LoadFailed(
            f"{command[0]} failed:\n{(error.stderr or error.stdout)[-2000:]}"
        ) from error
    except subprocess.TimeoutExpired as error:
        raise LoadFailed(f"{command[0]} did not end") from error
    return done.stdout
