"""Everything ``make run`` or ``make fleet`` starts, as one program: for fuzzing and for tests."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from scripts import running
from scripts.account import ServersUnavailable
from scripts.kept import Kept, Order

START_TIMEOUT_S = 120.0
#: The service's own time to finish what it has, and the servers' after it.
GRACE_S = 120.0


@dataclass(frozen=True, slots=True)
class Stack:
    """The program and the addresses it has noted."""

    program: Kept
    service: running.Running
    log: Path


@contextlib.contextmanager
def stack(
    data: Path, settings: Mapping[str, str], *, program: Sequence[str] = ("scripts.run",)
) -> Iterator[Stack]:
    """``program``, a module and its arguments, with its data in ``data``, until the block ends.

    On free ports.
    """
    log = data / "run.log"
    free = {"TOLLGATE_SERVER__PORT": "0", "TOLLGATE_SERVER__INTERNAL_PORT": "0"}
    started = Kept(
        Order(
            command=(sys.executable, "-m", *program, "--data", str(data)),
            directory=running.ROOT,
            environment={**os.environ, **free, **settings},
            stop_signals=(signal.SIGTERM,),
            grace_s=GRACE_S,
            log=log,
        )
    )
    try:
        yield Stack(started, _await(started, data, log), log)
    finally:
        started.stop()


def _await(program: Kept, data: Path, log: Path) -> running.Running:
    deadline = time.monotonic() + START_TIMEOUT_S
    while (service := running.read(data)) is None:
        if program.wait(0.1) or time.monotonic() > deadline:
            raise ServersUnavailable(f"the service did not start:\n{log.read_text()[-4000:]}")
    return service
