"""Waiting and contention, in closed forms; pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Service:
    """First two moments of the time a request keeps its server busy, in s and s²."""

    mean_s: float
    square_s2: float

    @classmethod
    def of(cls, mix: Sequence[tuple[float, float]]) -> Service:
        """``mix``: weight and mean of each kind; within a kind it is exponential."""
        total = sum(weight for weight, _ in mix)
        mean_s = sum(weight * kind_s for weight, kind_s in mix) / total
        return cls(mean_s, sum(weight * 2 * kind_s**2 for weight, kind_s in mix) / total)


def time_s(service: Service, load: float, share: float = 0.99) -> float:
    """Waiting and service together that this share of the requests stays below; M/G/1.

    ``load`` is the utilisation, below 1. The mean wait is Pollaczek and Khinchine's,
    load · E[S²] / (2 E[S] (1 - load)); a request waits at all with the probability ``load``, and
    how long is taken as exponential, which is exact for M/M/1 and right for busy servers (Kingman
    1962). Kleinrock, Queueing Systems I, 5.6 and II, 2.1. The service adds its mean, and where
    hardly anybody waits it is all there is.
    """
    if load >= 1:
        return math.inf
    alone_s = -math.log(1 - share) * service.mean_s
    waits_s = service.square_s2 / (2 * service.mean_s * (1 - load))  # of those who do
    return max(alone_s, waits_s * math.log(max(load / (1 - share), 1.0)) + service.mean_s)


def distinct(drawn: float, kinds: float) -> float:
    """How many different ones are among so many, each of ``kinds`` equally likely."""
    if kinds <= 1:
        return min(1.0, drawn)
    return -kinds * math.expm1(drawn * math.log1p(-1 / kinds))


def slowdown(workers: int, sigma: float, kappa: float) -> float:
    """How much more a request costs where so many share a machine.

    The denominator of the universal scalability law (Gunther, Guerrilla Capacity Planning, 2007):
    throughput(n) = n · throughput(1) / (1 + sigma (n - 1) + kappa n (n - 1)).
    """
    return 1 + sigma * (workers - 1) + kappa * workers * (workers - 1)


def fit(costs: Sequence[tuple[int, float]]) -> tuple[float, float]:
    """Sigma and kappa, neither below 0, that come closest (least squares) to the costs measured.

    ``costs``: number of workers and cost of a request, one worker among them. By cost, not by
    throughput: on a machine with few cores the load generator has a share of them, and of the
    throughput, but none of the workers' time.
    """
    alone = next(cost for workers, cost in costs if workers == 1)
    rows = [(n - 1, n * (n - 1), cost / alone - 1) for n, cost in costs if n > 1]
    a = sum(x * x for x, _, _ in rows)
    b = sum(x * y for x, y, _ in rows)
    c = sum(y * y for _, y, _ in rows)
    p = sum(x * z for x, _, z in rows)
    q = sum(y * z for _, y, z in rows)
    candidates = [(0.0, 0.0)]
    if a:
        candidates += [(max(0.0, p / a), 0.0), (0.0, max(0.0, q / c))]
    if determinant := a * c - b * b:
        both = ((p * c - q * b) / determinant, (q * a - p * b) / determinant)
        candidates += [both] if min(both) >= 0 else []

    def error(pair: tuple[float, float]) -> float:
        return sum((pair[0] * x + pair[1] * y - z) ** 2 for x, y, z in rows)

    return min(candidates, key=error)
