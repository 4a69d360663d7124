"""Two servers beside each other: short runs in turn, so that what disturbs one disturbs both."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

from scripts.bench.contestants import Contestant
from scripts.bench.load import Generator, Load, LoadFailed
from scripts.bench.processes import cpu_s


@dataclass(frozen=True, slots=True)
class Sample:
    """One run of one server."""

    per_second: float
    cpu_us: float
    p99_ms: float


@dataclass(frozen=True, slots=True)
class Pair:
    yardstick: Sample
    other: Sample


@dataclass(frozen=True, slots=True)
class Comparison:
    """Ratios of each pair first, then their median: noise that both had cancels out."""

    name: str
    pairs: tuple[Pair, ...]

    @property
    def throughput_ratios(self) -> list[float]:
        return [pair.other.per_second / pair.yardstick.per_second for pair in self.pairs]

    @property
    def cpu_ratios(self) -> list[float]:
        """Yardstick's CPU per request over the other's: below 1 the other needs more."""
        return [pair.yardstick.cpu_us / pair.other.cpu_us for pair in self.pairs]

    def middle(self, figure: Callable[[Pair], float]) -> float:
        return median(figure(pair) for pair in self.pairs)


def compared(
    yardstick: Contestant,
    other: Contestant,
    generator: Generator,
    *,
    pairs: int,
    seconds: float,
    refused: bool,
) -> Comparison:
    """``pairs`` runs each, the first of a pair in turn; ``refused``: what the other must answer."""

    def run(contestant: Contestant) -> Sample:
        return sample(contestant, generator, seconds, refused=refused and contestant is other)

    for contestant in (yardstick, other):  # first touches, and a burst that may be left
        generator.offer(Load(f"{contestant.url}{contestant.path}", seconds))
    found = []
    for number in range(pairs):
        first, second = (other, yardstick) if number % 2 else (yardstick, other)
        samples = {contestant.name: run(contestant) for contestant in (first, second)}
        found.append(Pair(samples[yardstick.name], samples[other.name]))
    return Comparison(other.name, tuple(found))


def sample(
    contestant: Contestant, generator: Generator, seconds: float, *, refused: bool
) -> Sample:
    before_s = cpu_s(contestant.pid)
    outcome = generator.offer(Load(f"{contestant.url}{contestant.path}", seconds))
    used_s = cpu_s(contestant.pid) - before_s
    share = outcome.refused / outcome.requests
    if share < 0.95 if refused else outcome.refused:
        raise LoadFailed(
            f"{contestant.name}: {outcome.refused} of {outcome.requests} were refused, which is not"
            " what was to be measured"
        )
    return Sample(outcome.per_second, used_s / outcome.requests * 1_000_000, outcome.p99_ms)
