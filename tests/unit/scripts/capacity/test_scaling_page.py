"""docs/scaling.md says what the coefficients say, and names only what there is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from scripts.capacity.__main__ import main
from scripts.capacity.coefficients import Limits, read
from scripts.capacity.page import page

ROOT = Path(__file__).parents[4]
PAGE = (ROOT / "docs" / "scaling.md").read_text(encoding="utf-8")
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def test_tables_are_those_of_the_coefficients() -> None:
    """`python -m scripts.capacity page` prints them anew; paste them."""
    lines = [line for line in page(read()).splitlines() if line]
    assert [line for line in lines if line not in PAGE] == []


def test_every_command_is_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert set(re.findall(r"[`$] ?make ([a-z-]+)", PAGE)) <= TARGETS
    ways = set(re.findall(r"python -m scripts\.capacity ([a-z]+)", PAGE))
    assert ways == {"measure", "fit", "validate", "page"}
    for way in ways:
        with pytest.raises(SystemExit) as ended:
            main([way, "--help"])
        assert ended.value.code == 0
    capsys.readouterr()


def test_every_file_link_metric_and_limit_is_there() -> None:
    files = set(re.findall(r"`((?:scripts|config)/[\w/.-]+)`", PAGE))
    files |= {f"docs/{name}" for name in re.findall(r"\]\(([\w-]+\.md)", PAGE)}
    assert len(files) > 5
    assert [name for name in files if not (ROOT / name).exists()] == []
    metrics = (ROOT / "docs" / "metrics.md").read_text()
    named = set(re.findall(r"`(tollgate_\w+)`", PAGE))
    assert named
    assert [name for name in named if f"`{name}" not in metrics] == []
    assert set(re.findall(r"--limit ([a-z_]+)=", PAGE)) <= set(Limits.model_fields)
