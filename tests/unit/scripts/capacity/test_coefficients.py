"""The file of coefficients: the shipped one is right, and what is written is what is read."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from scripts.capacity.coefficients import FILE, ROUTES, read, text
from service.settings import DatabaseSettings, JobSettings

ROOT = Path(__file__).parents[4]


def test_shipped_file_is_right_and_says_where_it_is_from() -> None:
    shipped = read()
    assert set(shipped.routes) == set(ROUTES)
    assert re.fullmatch(r"20\d\d-\d\d-\d\d", shipped.measured.at)
    assert shipped.measured.command == "python -m scripts.capacity measure"
    assert "cores" in shipped.measured.machine


def test_limits_are_those_of_the_service_as_shipped() -> None:
    limits = read().limits
    assert limits.worker_runs == JobSettings().concurrency
    assert limits.worker_connections == DatabaseSettings().pool_max + 1


def test_what_is_written_is_what_is_read(tmp_path: Path) -> None:
    written = tmp_path / "capacity.toml"
    written.write_text(text(read()))
    again = read(written)
    assert again.limits == read().limits
    assert again.routes["health"].worker_us == pytest.approx(read().routes["health"].worker_us)
    assert text(again) == written.read_text()


def test_shipped_file_is_as_the_command_writes_it() -> None:
    assert text(read()) == FILE.read_text()


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("worker_share = 0.65", "worker_share = 1.0"),
        ("nginx_cores = 8", "nginx_cores = 0"),
        ("spare_replicas = 1", "spare_replicas = 1\nsparer = 2"),
    ],
)
def test_file_with_a_fault_is_refused(tmp_path: Path, right: str, wrong: str) -> None:
    faulty = tmp_path / "capacity.toml"
    faulty.write_text(FILE.read_text().replace(right, wrong))
    with pytest.raises(ValidationError):
        read(faulty)
