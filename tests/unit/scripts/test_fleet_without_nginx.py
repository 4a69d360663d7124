"""``make fleet`` where there is no nginx."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from scripts.fleet import __main__ as program
from scripts.fleet import balancer


def test_says_how_to_install_it_and_starts_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(balancer, "_ADMINISTRATORS", ())
    monkeypatch.setattr(program, "take_stop_signals", lambda: None)
    monkeypatch.setattr(sys, "argv", ["fleet", "up", "--data", str(tmp_path / "run")])
    assert program.main() == program.EXIT_MISSING
    (line,) = capsys.readouterr().err.splitlines()
    assert "apt-get install -y nginx" in line
    assert not (tmp_path / "run").exists()
