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
