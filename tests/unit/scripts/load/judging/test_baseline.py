"""An earlier run to compare with: read, or refused in words; what else has changed is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from scripts.load.judging.baseline import BaselineUnusable, differences, read
from scripts.load.record import Fleet
from tests.support.load_records import generator, machine, rich, small


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    file = tmp_path / "browse.json"
    file.write_text(small().model_dump_json())
    return file


def changed(file: Path, **fields: Any) -> Path:
    file.write_text(json.dumps({**json.loads(file.read_text()), **fields}))
    return file


def test_record_comes_back_as_it_was(tmp_path: Path) -> None:
    file = tmp_path / "earlier.json"
    file.write_text(rich().model_dump_json(indent=1))
    assert read(file, "abuse") == rich()


def test_folder_stands_for_the_record_of_each_scenario(kept: Path) -> None:
    assert read(kept.parent, "browse") == small()
    with pytest.raises(BaselineUnusable, match=r"sell\.json can not be read"):
        read(kept.parent, "sell")


def test_other_scenario_is_refused(kept: Path) -> None:
    with pytest.raises(BaselineUnusable, match="of the scenario 'browse', not 'sell'"):
        read(kept, "sell")


def test_other_format_is_refused(kept: Path) -> None:
    with pytest.raises(BaselineUnusable, match="has format 2, this program reads 1"):
        read(changed(kept, format=2), "browse")


def test_damaged_record_says_where(kept: Path) -> None:
    with pytest.raises(BaselineUnusable, match="seconds: Input should be a valid number"):
        read(changed(kept, seconds="long"), "browse")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"{", "is not JSON"),
        (b"[]", "no record of a load test"),
        (b'{"title": "x"}', "no record of a load test"),
        (b"\xff\xfe", "can not be read"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, content: bytes, says: str) -> None:
    file = tmp_path / "x.json"
    file.write_bytes(content)
    with pytest.raises(BaselineUnusable, match=says):
        read(file, "browse")


def test_missing_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(BaselineUnusable, match="can not be read"):
        read(tmp_path / "none.json", "browse")


def test_same_conditions_have_no_differences() -> None:
    assert differences(rich(), rich(slower=2.0)) == []


def test_whatever_else_has_changed_is_told() -> None:
    before = small(
        machine=machine(cpu="ARM", cores=64, packages={"aiohttp": "3.14.4", "gone": "1"}),
        fleet=Fleet(replicas=1, workers=6, environment={"A": "1"}),
        seed=8,
        generator=generator(bottleneck=True),
    )
    told = "\n".join(differences(small(machine=machine(packages={"aiohttp": "3.14.5"})), before))
    assert "processor: ARM then, Intel Xeon (KVM) now" in told
    assert "cores: 64 then, 2 now" in told
    assert "fleet: 1 × 6 workers (A=1) then, http://127.0.0.1:8080 now" in told
    assert "seed: 8 then, 7 now" in told
    assert "aiohttp: 3.14.4 then, 3.14.5 now" in told
    assert "gone: 1 then, none now" in told
    assert "the generator had fallen behind in the baseline" in told
