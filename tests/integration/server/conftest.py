"""Real processes, in which a tiny application stands in for Tollgate's own."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from scripts.running import ROOT
from tests.support.served import Served, Start
from tests.support.waiting import until

PROGRAM = Path(__file__).with_name("tiny_application.py")


@pytest.fixture
def start(tmp_path: Path) -> Start:
    """Starts a server in a folder of its own, and leaves nothing of it behind."""

    @asynccontextmanager
    async def started(*, ready: bool = True, **server: object) -> AsyncIterator[Served]:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("TOLLGATE_")}
        environment |= {
            "TEST_NOTES": str(tmp_path),
            "TOLLGATE_CONFIG": str(tmp_path / "tollgate.toml"),
            "PROMETHEUS_MULTIPROC_DIR": str(tmp_path / "metrics"),
            "PYTHONPATH": str(ROOT),
        }
        (tmp_path / "metrics").mkdir(exist_ok=True)
        given = {"port": 0, "internal_port": 0, "workers": 1, "drain_delay": 1.0} | server
        with (tmp_path / "output").open("ab") as output:
            served = Served(None, tmp_path)  # type: ignore[arg-type]
            served.configure(**given)
            served.process = subprocess.Popen(
                [sys.executable, str(PROGRAM)], env=environment, stdout=output, stderr=output
            )
        known: set[int] = set()
        try:
            if ready:
                await until(
                    lambda: len(served.events("worker_ready")) >= int(str(given["workers"]))
                )
                (event,) = served.events("serving")
                served.public, served.internal = (
                    f"http://{event[name]}" for name in ("public", "internal")
                )
            known = served.workers()
            yield served
        finally:
            known |= served.workers()
            served.process.kill()
            served.process.wait()
            for pid in known:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    return started
