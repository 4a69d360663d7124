"""Who is refused most, in bounded memory, whoever and however many they are."""

from __future__ import annotations

import heapq
from collections.abc import Mapping

from service.fleet.models import Denied
from service.fleet.pseudonym import Pseudonyms

#: Principals followed at once by one worker.
MOST_FOLLOWED = 256
#: What was refused so long ago counts half.
HALF_LIFE_S = 40.0
#: With this half life a steady rate stands at so many times its number per second.
_SECONDS_HELD = HALF_LIFE_S / 0.6931471805599453
#: Nobody is followed for less than a refusal in three minutes.
_FAINTEST = 0.2


class HeavyHitters:
    """Counts that fade; when there is no room, those with the smallest are forgotten first.

    So each number may be too small by what was forgotten, and none is ever too large: nobody gets
    onto the list who was not refused.
    """

    def __init__(self, *, most: int = MOST_FOLLOWED) -> None:
        self._most = most
        self._counts: dict[str, float] = {}

    def __len__(self) -> int:
        return len(self._counts)

    def add(self, refused: Mapping[str, int], *, after_s: float) -> None:
        """These were refused in the ``after_s`` that passed since the last call."""
        kept = 0.5 ** (after_s / HALF_LIFE_S)
        counts = {name: count * kept for name, count in self._counts.items()}
        for name, number in refused.items():
            counts[name] = counts.get(name, 0.0) + number
        if len(counts) > self._most:
            counts = dict(heapq.nlargest(self._most, counts.items(), key=lambda item: item[1]))
        self._counts = {name: count for name, count in counts.items() if count >= _FAINTEST}

    def top(self, number: int) -> list[tuple[str, float]]:
        """The most refused, and how often in a minute."""
        largest = heapq.nlargest(number, self._counts.items(), key=lambda item: item[1])
        return [(name, count / _SECONDS_HELD * 60) for name, count in largest]


def denied(hitters: HeavyHitters, pseudonyms: Pseudonyms, number: int) -> tuple[Denied, ...]:
    """The most refused, with their names taken off."""
    return tuple(
        Denied(*pseudonyms.of(name), round(per_minute, 1))
        for name, per_minute in hitters.top(number)
    )
