"""The result as one document (``build/bench.json``) and as a table for people."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from redis import Redis

from scripts.bench.compare import Comparison
from scripts.bench.load import Generator
from scripts.bench.processes import Cores

_PACKAGES = ("aiohttp", "uvloop", "redis", "hiredis", "prometheus-client", "gunicorn")


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table; ``met`` is None where no goal is set."""

    name: str
    value: str
    goal: str = ""
    met: bool | None = None


def machine(cores: Cores, redis_url: str, generator: Generator) -> dict[str, Any]:
    client = Redis.from_url(redis_url)
    server = client.info("server")
    client.close()
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "worker and load on different cores": cores.apart,
        "system": platform.platform(),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in _PACKAGES},
        "redis server": "Valkey " + str(server.get("valkey_version", server["redis_version"])),
        "load generator": generator.name,
    }


def comparison_row(found: Comparison, goal: float | None) -> Row:
    ratios, cpu = found.throughput_ratios, found.cpu_ratios
    ratio = found.middle(lambda pair: pair.other.per_second / pair.yardstick.per_second)
    cpu_ratio = found.middle(lambda pair: pair.yardstick.cpu_us / pair.other.cpu_us)
    return Row(
        found.name,
        f"{ratio:.2f} of bare ({min(ratios):.2f} to {max(ratios):.2f});"
        f" by CPU {cpu_ratio:.2f} ({min(cpu):.2f} to {max(cpu):.2f});"
        f" {found.middle(lambda pair: pair.other.per_second):,.0f}/s,"
        f" {found.middle(lambda pair: pair.other.cpu_us):.0f} µs"
        f" (bare: {found.middle(lambda pair: pair.yardstick.per_second):,.0f}/s,"
        f" {found.middle(lambda pair: pair.yardstick.cpu_us):.0f} µs)",
        "" if goal is None else f"≥ {goal:.2f}",
        None if goal is None else ratio >= goal,
    )


def comparison_record(found: Comparison) -> dict[str, Any]:
    return {
        "name": found.name,
        "throughput ratio": found.middle(lambda p: p.other.per_second / p.yardstick.per_second),
        "CPU ratio": found.middle(lambda p: p.yardstick.cpu_us / p.other.cpu_us),
        "throughput ratios": found.throughput_ratios,
        "CPU ratios": found.cpu_ratios,
        "requests per second": [pair.other.per_second for pair in found.pairs],
        "CPU µs per request": [pair.other.cpu_us for pair in found.pairs],
        "p99 ms": [pair.other.p99_ms for pair in found.pairs],
        "bare requests per second": [pair.yardstick.per_second for pair in found.pairs],
        "bare CPU µs per request": [pair.yardstick.cpu_us for pair in found.pairs],
        "bare p99 ms": [pair.yardstick.p99_ms for pair in found.pairs],
    }


def table(facts: Mapping[str, Any], rows: list[Row]) -> str:
    lines = [
        *(f"{name}: {_plain(value)}" for name, value in facts.items()),
        "",
        "| what | measured | goal | met |",
        "|---|---|---|---|",
    ]
    for row in rows:
        met = "" if row.met is None else "yes" if row.met else "no"
        lines.append(f"| {row.name} | {row.value} | {row.goal} | {met} |")
    return "\n".join(lines)


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {number}" for name, number in value.items())
    return str(value)


def _cpu_name() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
