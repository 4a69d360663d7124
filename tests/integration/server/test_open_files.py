"""The limit of open files: raised as far as may be, and said where that is too little."""

from __future__ import annotations

import subprocess
import sys

import pytest

from scripts.running import ROOT

PROGRAM = """
import resource, sys
from service.server import launch
soft, hard = map(int, sys.argv[1:])
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
launch._allow_open_files(waiting_clients=1000)
print("limit", resource.getrlimit(resource.RLIMIT_NOFILE)[0])
"""


@pytest.mark.parametrize(
    ("soft", "hard", "limit", "warned"),
    [
        (256, 1024, 1024, True),
        (1024, 1024, 1024, True),  # as containers often are: nothing to raise, still too few
        (256, 2048, 2048, False),
        (2048, 2048, 2048, False),
    ],
)
def test_too_few_open_files_are_told(soft: int, hard: int, limit: int, warned: bool) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(soft), str(hard)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert f"limit {limit}" in done.stdout
    assert ("open_files_few" in done.stdout + done.stderr) == warned
