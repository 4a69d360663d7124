"""docs/benchmarks.md tells how its figures are made: the commands and files it names exist."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def test_every_command_of_the_page_is_a_target() -> None:
    commands = set(re.findall(r"\bmake ([a-z-]+)", PAGE))
    assert {"bench", "chaos-limits"} <= commands
    assert commands <= TARGETS


def test_every_file_of_the_page_is_there() -> None:
    files = set(re.findall(r"`((?:scripts|tests|config|service)/[\w/.-]+)`", PAGE))
    assert files
    assert [name for name in files if not (ROOT / name).exists()] == []


def test_readme_says_no_more_than_was_measured() -> None:
    readme = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    rows = re.findall(r"(?m)^\| ([^|]+) \|[^|]*\| (\d\.\d\d) \(", PAGE)
    throughput = {name: float(figure) for name, figure in reversed(rows)}  # the first of a name
    assert "more than 80 % of a bare aiohttp handler's throughput" in readme
    assert throughput["admitted"] > 0.80
    assert "a refusal costs less than the bare answer" in readme
    assert throughput["denied"] > 1
    assert (
        f"slowapi keeps {throughput['FastAPI + slowapi, admitted']:.0%}".replace("%", " %")
        in readme
    )
    recorded = (ROOT / "docs" / "chaos.md").read_text(encoding="utf-8").split("```text")[1]
    kills = sum(map(int, re.findall(r"(\d+) (?:postgres|replica|valkey|worker)", recorded)))
    [purchases] = re.findall(r"purchases: (\d+),", recorded)
    assert f"killed {kills} processes under {purchases} purchases" in readme
    assert "The books are in order." in recorded
