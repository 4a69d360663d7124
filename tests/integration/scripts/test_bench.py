"""``make bench`` measures what it says it does; its figures themselves are no matter for a test."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.running import ROOT

#: Three times the whole service is started, on a machine that may be busy with much else.
pytestmark = pytest.mark.timeout(240)


def test_quick_bench_fills_every_line(tmp_path: Path) -> None:
    result = tmp_path / "bench.json"
    done = subprocess.run(
        [sys.executable, "-m", "scripts.bench", "--quick", "--json", str(result)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(result.read_text())
    ours = [entry["name"] for entry in found["comparisons"]][:2]
    assert ours == ["Tollgate, admitted", "Tollgate, one flow from the cache"]
    for entry in found["comparisons"]:
        assert all(figure > 0 for figure in entry["requests per second"])
        assert 0 < entry["throughput ratio"] < 200
    lines = [line for line in done.stdout.splitlines() if line.startswith("| ")]
    for what in ("Tollgate, admitted", "denied", "Redis commands", "p99", "bucket", "worker",
                 "one flow from the cache", "a page of flows", "without it"):  # fmt: skip
        assert any(what in line for line in lines), what
    bucket = next(entry for name, entry in found.items() if name.startswith("memory of a bucket"))
    # The worker's own few may appear meanwhile.
    assert 2_000 <= bucket["keys"] <= 2_005
    looks = next(entry for name, entry in found.items() if name.startswith("looks"))
    assert looks["looks"] == 0 < looks["requests"]
    # Less than the key alone would take, or as much as a log of requests: then it counts wrongly.
    assert 30 < bucket["used_bytes"] / bucket["keys"] < 1_000
