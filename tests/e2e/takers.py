"""A fleet of takers: processes on one Redis that may be killed, replaced, and have wrong clocks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from scripts.running import ROOT
from tests.e2e.taker import Order
from tests.e2e.windows import Limit, Span, worst_excess
from tests.support.waiting import eventually

#: A start imports half the service; on a busy machine that takes seconds.
START_S = 20.0
#: Two readings of two clocks lie this far apart at most, unless we were put aside in between.
CLOCK_TOLERANCE_US = 5_000


#: One token: the instants are exact, but a process may be put aside between two readings.
MOST_EXCESS = 1


@dataclass(frozen=True, slots=True)
class Admission:
    limit: str
    asked_us: int
    told_us: int
    #: Server time; 0: decided without Redis.
    decided_us: int


@dataclass(frozen=True, slots=True)
class Taken:
    """All that a fleet admitted, and how often it was asked (by those who lived to tell)."""

    admissions: tuple[Admission, ...]
    offered: int

    def spans(self, limit: str) -> list[Span]:
        """On the server's clock. A decision without Redis is made when its answer is there."""
        ahead_us = time.time_ns() // 1000 - time.monotonic_ns() // 1000
        return [
            Span(at_us, at_us)
            for each in self.admissions
            if each.limit == limit
            for at_us in [each.decided_us or each.told_us + ahead_us]
        ]

    def decided_outside_the_call(self) -> list[Admission]:
        """Whose alleged server time is before the question or after the answer."""
        ahead_us = time.time_ns() // 1000 - time.monotonic_ns() // 1000
        return [
            each
            for each in self.admissions
            if each.decided_us
            and not (
                each.asked_us - CLOCK_TOLERANCE_US
                <= each.decided_us - ahead_us
                <= each.told_us + CLOCK_TOLERANCE_US
            )
        ]


def holds(taken: Taken, limits: dict[str, Limit]) -> None:
    assert taken.offered > len(taken.admissions), "nothing was refused: no test of a limit"
    excess = {name: float(worst_excess(taken.spans(name), limits[name])) for name in limits}
    assert all(tokens <= MOST_EXCESS for tokens in excess.values()), excess


def gives(taken: Taken, name: str, limit: Limit, *, share: float) -> None:
    """Nor much less than it might: a limiter that refuses everything holds every limit."""
    times = sorted(span.since_us for span in taken.spans(name))
    seconds = (times[-1] - times[0]) / 1_000_000
    assert len(times) >= share * limit.most_in(seconds) - 1, (name, len(times), seconds)


class Takers:
    def __init__(self, folder: Path, order: Order) -> None:
        self._folder = folder
        self._order = order
        self._processes: list[subprocess.Popen[bytes]] = []
        self._killed: set[int] = set()

    def start(self, environment: Mapping[str, str] | None = None, *, held: bool = False) -> None:
        """One that offers its load as soon as it can; held ones wait for ``begin``."""
        with self._written(len(self._processes)).open("wb") as output:
            self._processes.append(
                subprocess.Popen(
                    [sys.executable, str(Path(__file__).with_name("taker.py")),
                     json.dumps(asdict(self._order))],
                    stdin=subprocess.PIPE if held else subprocess.DEVNULL,
                    stdout=output,
                    env={**os.environ, "PYTHONPATH": str(ROOT), **(environment or {})},
                )
            )  # fmt: skip

    def start_together(self, *environments: Mapping[str, str] | None) -> None:
        """However long each takes to start, their loads begin at once."""
        for environment in environments:
            self.start(environment, held=True)
        self.await_ready()
        self.begin()

    def begin(self, *numbers: int) -> None:
        """Let these of the held ones offer their load; by default all of them."""
        for number in numbers or range(len(self._processes)):
            if held := self._processes[number].stdin:
                held.close()

    def await_ready(self) -> None:
        """Until every process is at work, or held just before it."""
        numbers = range(len(self._processes))
        eventually(
            lambda: all(self._written(number).stat().st_size for number in numbers),
            within_s=START_S,
            what="every taker has started",
        )

    def await_admitted(self, count: int) -> None:
        """Until so many have been admitted by all of them together."""
        eventually(
            lambda: self._admitted() >= count, within_s=START_S, what=f"{count} are admitted"
        )

    def await_decided_by_redis(self, *, within_s: float = 30.0) -> None:
        """Until every process has asked it again, from now on."""
        now_us = time.monotonic_ns() // 1000

        def decided(number: int) -> bool:
            lines = self._written(number).read_text().rpartition("\n")[0].splitlines()[1:]
            told = (line.split()[2:] for line in reversed(lines))
            return any(int(at) > now_us for at, decided_us in told if int(decided_us))

        eventually(lambda: all(map(decided, range(len(self._processes)))), within_s=within_s)

    def stop(self) -> None:
        """Before the time ordered; ``finish`` then waits for their orderly end."""
        for process in self._processes:
            process.terminate()

    def _admitted(self) -> int:
        """Each process writes a line for each, after its first."""
        numbers = range(len(self._processes))
        return sum(max(0, self._written(n).read_bytes().count(b"\n") - 1) for n in numbers)

    def kill_oldest(self) -> None:
        victim = next(p for p in self._processes if p.pid not in self._killed)
        self._killed.add(victim.pid)
        victim.kill()
        victim.wait()

    def finish(self) -> Taken:
        codes = {p.wait(self._order.run_s + START_S) for p in self._processes
                 if p.pid not in self._killed}  # fmt: skip
        assert codes == {0}
        admissions, offered = [], 0
        for number in range(len(self._processes)):
            # Of a killed one the last line may be cut short.
            for line in self._written(number).read_text().rpartition("\n")[0].splitlines()[1:]:
                name, *numbers = line.split()
                if name == "offered":
                    offered += int(numbers[0])
                else:
                    admissions.append(Admission(name, *map(int, numbers)))
        return Taken(tuple(admissions), offered)

    def end(self) -> None:
        self.begin()
        for process in self._processes:
            process.kill()
            process.wait()

    def _written(self, number: int) -> Path:
        return self._folder / f"taker-{number}"


@contextmanager
def takers(
    folder: Path,
    redis_url: str,
    limits: Mapping[str, Limit],
    *,
    run_s: float,
    workers: int = 3,
    variant: str = "exact",
    timeout_s: float = 0.1,
) -> Iterator[Takers]:
    """To be offered ten times each limit's rate, all ``workers`` together."""
    order = Order(
        redis_url=redis_url,
        variant=variant,
        limits={name: (it.tokens, it.period_s, it.burst) for name, it in limits.items()},
        per_second={name: 10 * it.tokens / it.period_s / workers for name, it in limits.items()},
        run_s=run_s,
        workers=workers,
        timeout_s=timeout_s,
    )
    fleet = Takers(folder, order)
    try:
        yield fleet
    finally:
        fleet.end()
