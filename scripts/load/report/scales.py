"""From values to places in a picture, and where its axis has marks; places are 0 to 1."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

#: Below this a logarithmic axis does not reach, in ms: no clock here is finer.
_LEAST: Final = 0.001
#: Below this a linear axis has nothing to show.
_NOTHING: Final = 1e-9
#: Beyond it no count or clock goes: who writes so much has written something else.
_MOST: Final = 1e21
#: More of the axis than this between two marks looks empty.
_MARKS: Final = 4


@dataclass(frozen=True, slots=True)
class Scale:
    low: float
    high: float
    logarithmic: bool
    marks: tuple[float, ...]

    def __call__(self, value: float) -> float:
        if self.logarithmic:
            value = max(value, self.low)
            place = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            place = (value - self.low) / (self.high - self.low)
        return min(1.0, max(0.0, place))


def finite(values: Iterable[float | None]) -> list[float]:
    """Those that can be drawn."""
    return [value for value in values if value is not None and abs(value) <= _MOST]


def linear(values: Iterable[float | None]) -> Scale:
    """From zero to a round number above them all."""
    most = max([*finite(values), 0.0])
    if most < _NOTHING:
        return Scale(0.0, 1.0, logarithmic=False, marks=(0.0, 1.0))
    step = _step(most / _MARKS)
    top = step * math.ceil(most / step - 1e-9)
    marks = round(top / step)
    return Scale(0.0, top, logarithmic=False, marks=tuple(step * i for i in range(marks + 1)))


def logarithmic(values: Iterable[float | None]) -> Scale:
    """Between round numbers around them; zero is shown as the least there is."""
    there = [max(value, _LEAST) for value in finite(values)] or [1.0, 10.0]
    low, high = _below(min(there)), _above(max(there))
    if high <= low:
        high = low * 10
    decades = math.log10(high / low)
    steps = (1, 2, 5) if decades < 2 else (1, 3) if decades < 4.5 else (1,)
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    every = max(1, math.ceil((last - first) / 6))
    marks = [step * 10.0**power for power in range(first, last + 1, every) for step in steps]
    within = tuple(mark for mark in marks if low * 0.999 <= mark <= high * 1.001)
    return Scale(low, high, logarithmic=True, marks=within or (low, high))


def latencies(values: Iterable[float | None]) -> Scale:
    """Logarithmic where the largest would flatten all others."""
    there = finite(values)
    usual = [value for value in there if value > 0]
    if usual and max(usual) > 12 * min(usual):
        return logarithmic(there)
    return linear(there)


def time_marks(length_s: float) -> list[float]:
    """Whole numbers of seconds, minutes or hours; seldom more than seven."""
    steps = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 21600, 43200, 86400]
    step = next((s for s in steps if length_s / s <= 6.5), float(_step(length_s / 6)))
    return [step * i for i in range(int(length_s / step + 1e-9) + 1)]


def percentile_place(share: float, last: float) -> float:
    """Each further nine takes as much room; ``last`` is the share at the right end."""
    return min(1.0, math.log10(1 - share) / math.log10(1 - last))


def thinned(places: list[float], least: float) -> list[int]:
    """Which of the ascending places stand at least so far apart from the one kept before."""
    kept: list[int] = []
    for index, place in enumerate(places):
        if not kept or place - places[kept[-1]] >= least:
            kept.append(index)
    return kept


def gaps(places: Iterable[float]) -> float:
    """The usual distance between two of them."""
    found = sorted(after - before for before, after in pairwise(places))
    return found[len(found) // 2] if found else 1.0


def _step(least: float) -> float:
    """1, 2 or 5 times a power of ten, at or above."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= least * 0.999)


def _below(value: float) -> float:
    power = 10.0 ** math.floor(math.log10(value))
    return max(step * power for step in (1, 2, 5) if step * power <= value * 1.001)


def _above(value: float) -> float:
    power = 10.0 ** math.floor(math.log10(value))
    return min(step * power for step in (1, 2, 5, 10) if step * power >= value * 0.999)
