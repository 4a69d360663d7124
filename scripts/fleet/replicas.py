"""The replicas of a fleet: started together, replaced when they die, restarted one by one."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from scripts.ground import READY_TIMEOUT_S, StepFailed, end_of, say
from scripts.replica import Replica

#: nginx leaves a replica alone that took no connection for a second, counted in whole ones; before
#: the next one leaves, it must have found the last one again.
NOTICED_S = 2.5
_LOOK_S = 0.1


class NotReady(StepFailed):
    """A replica did not become ready, or has ended before it was."""


class Replicas:
    """Those of one fleet; ``undisturbed`` is called in every wait and may raise."""

    def __init__(self, members: Sequence[Replica], undisturbed: Callable[[], None]) -> None:
        self.members = members
        self._undisturbed = undisturbed

    def await_ready(self) -> None:
        for replica in self.members:
            self._await_ready(replica)

    def look_after(self) -> None:
        """Start a replica again that has died, as a supervisor would."""
        for number, replica in enumerate(self.members, 1):
            if not replica.alive:
                say(f"Replica {number} has ended (code {replica.exit_code}); starting it again.")
                replica.start()

    def restart(self, tell: Callable[[str], None], environment: Mapping[str, str]) -> None:
        """One after another, so that the others serve meanwhile; raises StepFailed.

        NotReady leaves those that have not had their turn as they are.
        """
        before = [replica.environment for replica in self.members]
        for number, replica in enumerate(self.members, 1):
            began_s = time.monotonic()
            tell(f"replica {number} of {len(self.members)}: leaving")
            replica.ask_to_stop()
            while not replica.wait(_LOOK_S):
                self._undisturbed()
            left_s = time.monotonic() - began_s
            replica.environment = environment
            replica.start()
            try:
                self._await_ready(replica)
            except NotReady:
                replica.environment = before[number - 1]
                replica.stop()  # and is started again as it was
                raise
            ready_s = time.monotonic() - began_s - left_s
            tell(
                f"replica {number} of {len(self.members)}: left after {left_s:.1f} s,"
                f" ready again after {ready_s:.1f} s"
            )
            if number < len(self.members):
                self._pause(NOTICED_S)

    def _await_ready(self, replica: Replica) -> None:
        deadline_s = time.monotonic() + READY_TIMEOUT_S
        while not (replica.ready() and replica.complete()):
            self._undisturbed()
            if replica.wait(_LOOK_S) or time.monotonic() > deadline_s:
                raise NotReady(f"a replica did not become ready:\n{end_of(replica.log)}")

    def _pause(self, pause_s: float) -> None:
        until_s = time.monotonic() + pause_s
        while (left_s := until_s - time.monotonic()) > 0:
            self._undisturbed()
            self.members[0].wait(min(_LOOK_S, left_s))


@contextlib.contextmanager
def replicas(
    data: Path,
    environment: Mapping[str, str],
    *,
    count: int,
    workers: int,
    grace_s: float,
    undisturbed: Callable[[], None],
) -> Iterator[Replicas]:
    """So many, all ready, until the block ends; they leave together."""
    members = []
    for number in range(1, count + 1):
        log = data / f"replica-{number}.log"
        log.unlink(missing_ok=True)  # of the last run
        members.append(Replica(log, environment, workers=workers, grace_s=grace_s))
    made = Replicas(members, undisturbed)
    with ExitStack() as stack:
        for replica in members:
            stack.callback(replica.stop)
            replica.start()
        try:
            made.await_ready()
            yield made
            for replica in members:  # all at once; ``stop`` then waits for each
                replica.ask_to_stop()
        except KeyboardInterrupt:
            for replica in members:
                replica.ask_to_stop()
            raise
