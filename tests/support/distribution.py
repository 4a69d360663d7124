"""How the tests are shared out between the worker processes of pytest-xdist."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from xdist.scheduler import LoadScopeScheduling

#: Where the tests of a file share what is dear to start: one worker runs the whole file.
TOGETHER = ("tests/e2e/", "tests/integration/admission/test_cluster.py")
#: Half of the suite waits for timers and other processes, so two for each core; and each brings
#: servers of its own, so not many.
PER_CORE = 2
MOST = 8


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
        return nodeid.partition("::")[0] if nodeid.startswith(TOGETHER) else nodeid
