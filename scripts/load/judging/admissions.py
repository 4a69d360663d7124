"""Whether a limit held: the worst window of every principal, as far as a client can know it.

A client knows of an admission only that it happened between sending the request and having the
answer. So of a window it counts what was sent *and* answered within it: those were admitted inside
for certain. What is over burst + rate × window then was let in too much, however the moments lie;
nobody is accused falsely. In turn an excess may go unseen, but not by more than as many requests as
were under way at once. What failed (5xx, no answer) may have been admitted and is not counted.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from scripts.load.record import Admissions


@dataclass(frozen=True, slots=True)
class Bound:
    """What a policy promises: at most burst + rate × time, of tokens; a request takes ``cost``."""

    policy: str
    rate_per_s: float
    burst: int
    cost: int = 1
    #: One bucket for all clients together.
    shared: bool = False


@dataclass(slots=True)
class Taken:
    """What one principal was let in for: both moments of each admission, in seconds."""

    principal: str
    offered: int = 0
    sent_s: array[float] = field(default_factory=lambda: array("d"))
    answered_s: array[float] = field(default_factory=lambda: array("d"))


@dataclass(frozen=True, slots=True)
class Worst:
    """Tokens above the bound, less than zero where there was room; and how long the window was."""

    excess: float
    window_s: float


def worst_window(sent_s: Sequence[float], answered_s: Sequence[float], bound: Bound) -> Worst:
    """Over every window; O(n log n).

    Windows end with an answer and begin with a sending. Going through the answers in order, a tree
    over all sendings keeps for each beginning how many were inside: (n sent at or after it, and
    answered by now) + rate × beginning. Its maximum less rate × end is the worst that ends now.
    """
    count = len(sent_s)
    if not count:
        return Worst(-float(bound.burst), 0.0)
    in_order = sorted(range(count), key=lambda index: sent_s[index])
    leaf_of = [0] * count
    size = 1 << (count - 1).bit_length()
    begin_s = [0.0] * size
    for leaf, index in enumerate(in_order):
        leaf_of[index] = leaf
        begin_s[leaf] = sent_s[index]
    tree = _Beginnings(size)
    worst = Worst(-math.inf, 0.0)
    # Small numbers: a long run's moments times a high rate would eat the precision.
    zero_s, rate, cost = begin_s[0], bound.rate_per_s, bound.cost
    for index in sorted(range(count), key=lambda index: answered_s[index]):
        leaf = leaf_of[index]
        tree.count(leaf, cost, rate * (begin_s[leaf] - zero_s))
        excess = tree.best[1] - rate * (answered_s[index] - zero_s) - bound.burst
        if excess > worst.excess:
            worst = Worst(excess, answered_s[index] - begin_s[tree.beginning()])
    return worst


class _Beginnings:
    """For each node: what its leaves count, and its best (count from a leaf on + its own value)."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._total = [0] * (2 * size)
        self.best = [-math.inf] * (2 * size)

    def count(self, leaf: int, cost: int, value: float) -> None:
        node = self._size + leaf
        total, best = self._total, self.best
        total[node], best[node] = cost, cost + value
        while node > 1:
            node >>= 1
            left, right = 2 * node, 2 * node + 1
            total[node] = total[left] + total[right]
            over = best[left] + total[right]
            best[node] = max(best[right], over)

    def beginning(self) -> int:
        """The leaf the best of all begins with."""
        node = 1
        while node < self._size:
            left, right = 2 * node, 2 * node + 1
            over = self.best[left] + self._total[right]
            node = left if over > self.best[right] else right
        return node - self._size


def admissions(
    group: str, bound: Bound, taken: Iterable[Taken], *, seconds: float
) -> Admissions | None:
    """One policy and one group of clients; None where nobody asked."""
    takers = [_together(taken)] if bound.shared else list(taken)
    takers = [taker for taker in takers if taker.offered]
    if not takers:
        return None
    worst, of_whom = Worst(-math.inf, 0.0), ""
    for taker in takers:
        found = worst_window(taker.sent_s, taker.answered_s, bound)
        if found.excess > worst.excess:
            worst, of_whom = found, taker.principal
    counts = [len(taker.sent_s) for taker in takers]
    return Admissions(
        policy=bound.policy,
        group=group,
        rate_per_s=bound.rate_per_s,
        burst=bound.burst,
        principals=len(takers),
        offered=sum(taker.offered for taker in takers),
        admitted=sum(counts),
        allowed=len(takers) * (bound.burst + bound.rate_per_s * seconds),
        worst_excess=worst.excess,
        worst_window_s=worst.window_s,
        worst_principal=of_whom,
        least=min(counts),
        most=max(counts),
        fairness=fairness(counts),
    )


def fairness(counts: Sequence[int]) -> float:
    """Jain's index: 1 where all got the same, 1/n where one got all."""
    squares = sum(count * count for count in counts)
    return sum(counts) ** 2 / (len(counts) * squares) if squares else 1.0


def _together(taken: Iterable[Taken]) -> Taken:
    """All of them as the one that shares a bucket."""
    made = Taken("all clients")
    for one in taken:
        made.offered += one.offered
        made.sent_s.extend(one.sent_s)
        made.answered_s.extend(one.answered_s)
    return made
