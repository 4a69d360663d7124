"""Seconds as they are told by all generators, put together and shown."""

from __future__ import annotations

import sys
from collections import Counter, defaultdict
from collections.abc import Sequence

from scripts.load.asking.histogram import Histogram
from scripts.load.asking.tally import histogram_of
from scripts.load.plan import GroupSecond, Told
from scripts.load.record import KINDS, Kind, Second

#: Where nobody watches, one line in so many seconds is enough.
_UNWATCHED_S = 10


class Progress:
    """``hear`` is told each second of each generator; ``seconds`` is what it came to."""

    def __init__(self, processes: int, seconds: float) -> None:
        self._processes = processes
        self._length = seconds
        self._every_s = 1 if sys.stdout.isatty() else _UNWATCHED_S
        self._told: defaultdict[int, list[Told]] = defaultdict(list)

    def hear(self, _process: int, told: Told) -> None:
        heard = self._told[told.at]
        heard.append(told)
        if len(heard) == self._processes and (told.at + 1) % self._every_s == 0:
            print(self._line(told.at, heard), flush=True)

    def seconds(self) -> list[Second]:
        made = []
        for at in sorted(self._told):
            by_group: dict[str, list[GroupSecond]] = {}
            for told in self._told[at]:
                for group in told.groups:
                    by_group.setdefault(group.group, []).append(group)
            made += [_second(at, name, parts) for name, parts in by_group.items()]
        return made

    def _line(self, at: int, heard: Sequence[Told]) -> str:
        parts = [group for told in heard for group in told.groups]
        due, kinds, latencies, in_flight = _sum(parts)
        counts = "  ".join(
            f"{kind} {kinds[kind]}" for kind in KINDS if kinds[kind] or kind in {"ok", "failed"}
        )
        p50, p99 = (latencies.percentile_us(share) / 1000 for share in (0.5, 0.99))
        return (
            f"{at + 1:>5} s of {self._length:.0f}  due {due}  {counts}"
            f"  p50 {p50:.1f} ms  p99 {p99:.1f} ms  in flight {in_flight}"
        )


def _second(at: int, group: str, parts: Sequence[GroupSecond]) -> Second:
    due, kinds, latencies, in_flight = _sum(parts)
    any_served = bool(latencies.counts)
    return Second(
        at=at,
        group=group,
        due=due,
        kinds=dict(kinds),
        p50_ms=latencies.percentile_us(0.5) / 1000 if any_served else None,
        p99_ms=latencies.percentile_us(0.99) / 1000 if any_served else None,
        max_ms=latencies.max_us / 1000 if any_served else None,
        in_flight=in_flight,
    )


def _sum(parts: Sequence[GroupSecond]) -> tuple[int, Counter[Kind], Histogram, int]:
    kinds: Counter[Kind] = Counter()
    latencies = Histogram()
    for part in parts:
        kinds.update(part.kinds)
        latencies.add(histogram_of(part.latencies))
    return sum(p.due for p in parts), kinds, latencies, sum(p.in_flight for p in parts)
