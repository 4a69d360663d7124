"""How the tests are shared out between the worker processes of pytest-xdist."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from xdist.scheduler import LoadScopeScheduling
from xdist.workermanage import WorkerController

#: Half of the suite waits for timers and other processes, so two for each core; and each brings
#: servers of its own, so not many.
PER_CORE = 2
MOST = 8
#: A running one and the next: what else a worker is given, no other can take off it.
IN_HAND = 2
#: Tests that take a millisecond each: sending them one by one would take longer.
_QUICK = "tests/unit/"
#: What a file of tests says that shares something dear among them.
_SHARES = re.compile(r'scope="module"|\btollgate: Site\b')


def workers_for(arguments: Sequence[str]) -> int:
    """How many to start for these paths; none where starting them would be most of the work."""
    if all(argument.partition("::")[0].endswith(".py") for argument in arguments):
        return 0
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    return min(MOST, PER_CORE * cores)


class InOrder(LoadScopeScheduling):
    """The next test, in the order of collection, goes to the worker that is free first.

    So the quick folders come first, and no worker is left with a long queue in the end.
    """

    def _split_scope(self, nodeid: str) -> str:
        """What one worker runs as a whole: a test, or a file."""
        file = nodeid.partition("::")[0]
        return file if file.startswith(_QUICK) or _shares(file) else nodeid

    def _reschedule(self, node: WorkerController) -> None:
        if node.shutting_down:
            return
        # What a worker that died had been given comes back with what it had finished: nothing.
        while self.workqueue and self._pending_of(self.assigned_work[node]) < IN_HAND:
            self._assign_work_unit(node)
        if not self.workqueue:
            node.shutdown()


@cache
def _shares(file: str) -> bool:
    return bool(_SHARES.search(Path(file).read_text()))
