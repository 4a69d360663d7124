"""When requests are due: a rate over time, and arrivals that keep to it whatever happens."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from math import sqrt
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Rate = Annotated[float, Field(gt=0)]
#: Of a run's length, so that a longer run has the same shape.
Share = Annotated[float, Field(ge=0, le=1)]


@dataclass(frozen=True, slots=True)
class Stretch:
    """The rate goes evenly from one value to the other."""

    seconds: float
    from_rate: float
    to_rate: float

    @property
    def arrivals(self) -> float:
        return (self.from_rate + self.to_rate) / 2 * self.seconds

    def moment_of(self, arrivals: float) -> float:
        """After how many seconds so many have come."""
        slope = (self.to_rate - self.from_rate) / self.seconds
        # The root of slope / 2 t² + from_rate t = arrivals that stays exact where slope is small.
        root = sqrt(max(0.0, self.from_rate**2 + 2 * slope * arrivals))
        return 2 * arrivals / (self.from_rate + root) if arrivals else 0.0


class _Schedule(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Constant(_Schedule):
    kind: Literal["constant"]
    rate: Rate

    def stretches(self, seconds: float) -> list[Stretch]:
        return [Stretch(seconds, self.rate, self.rate)]

    def words(self, factor: float) -> str:
        return f"constant {self.rate * factor:g}/s"


class Poisson(_Schedule):
    """As independent clients come: at random, with this mean."""

    kind: Literal["poisson"]
    rate: Rate

    def stretches(self, seconds: float) -> list[Stretch]:
        return [Stretch(seconds, self.rate, self.rate)]

    def words(self, factor: float) -> str:
        return f"Poisson {self.rate * factor:g}/s"


class Ramp(_Schedule):
    kind: Literal["ramp"]
    from_rate: Annotated[float, Field(ge=0)]
    to_rate: Rate

    def stretches(self, seconds: float) -> list[Stretch]:
        return [Stretch(seconds, self.from_rate, self.to_rate)]

    def words(self, factor: float) -> str:
        return f"ramp {self.from_rate * factor:g}/s to {self.to_rate * factor:g}/s"


class Spike(_Schedule):
    """``rate``, but ``peak`` from ``begins`` on for ``lasts`` (both shares of the run)."""

    kind: Literal["spike"]
    rate: Rate
    peak: Rate
    begins: Share = 0.4
    lasts: Share = 0.2

    def stretches(self, seconds: float) -> list[Stretch]:
        lasts = min(self.lasts, 1 - self.begins)
        parts = ((self.begins, self.rate), (lasts, self.peak), (1 - self.begins - lasts, self.rate))
        return [Stretch(share * seconds, rate, rate) for share, rate in parts if share > 0]

    def words(self, factor: float) -> str:
        return f"{self.rate * factor:g}/s with a spike of {self.peak * factor:g}/s"


class Closed(_Schedule):
    """No schedule: each connection asks again when it is answered, as ab and wrk do.

    Such a client slows down with the service and does not see how long others would have waited.
    """

    kind: Literal["closed"]
    requests: Annotated[int, Field(ge=1)] | None = None

    def words(self, _factor: float) -> str:
        return "as fast as answers come" + (f", {self.requests} requests" if self.requests else "")


Open = Constant | Poisson | Ramp | Spike
Schedule = Annotated[Open | Closed, Field(discriminator="kind")]


def mean_rate(schedule: Open) -> float:
    return sum(stretch.arrivals for stretch in schedule.stretches(1.0))


def arrivals(
    schedule: Open, seconds: float, rng: random.Random, *, factor: float = 1.0
) -> Iterator[float]:
    """The moments of a run of ``seconds``, at ``factor`` times the rates."""
    began_s = passed = 0.0
    gap = _gaps(schedule, rng)
    due = gap()
    for stretch in schedule.stretches(seconds):
        coming = stretch.arrivals * factor
        while due - passed < coming:
            yield began_s + stretch.moment_of((due - passed) / factor)
            due += gap()
        began_s += stretch.seconds
        passed += coming


class _Gaps:
    """From one arrival to the next, counted in arrivals that are expected meanwhile."""

    def __init__(self, rng: random.Random | None) -> None:
        self._rng = rng
        self._first = True

    def __call__(self) -> float:
        if self._rng is not None:
            return self._rng.expovariate(1.0)
        first, self._first = self._first, False
        return 0.0 if first else 1.0


def _gaps(schedule: Open, rng: random.Random) -> _Gaps:
    return _Gaps(rng if isinstance(schedule, Poisson) else None)
