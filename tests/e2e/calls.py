"""What the payment service saw since some moment: the sandbox's own diary of calls."""

from __future__ import annotations

import time
from dataclasses import dataclass

from scripts.chaos.fleet import Fleet

CREATE = "POST /payment"


@dataclass(frozen=True, slots=True)
class Call:
    """Moments of the monotonic clock; ``left_s`` is None while it is still held."""

    route: str
    came_s: float
    left_s: float | None

    @property
    def ended_s(self) -> float:
        assert self.left_s is not None
        return self.left_s


class Calls:
    """The calls since this was made."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._since_s = time.monotonic()

    def all(self, route: str | None = None) -> list[Call]:
        calls = [Call(**call) for call in self._fleet.calls()]
        return [c for c in calls if c.came_s >= self._since_s and route in {None, c.route}]

    def held(self) -> list[Call]:
        return [call for call in self.all() if call.left_s is None]

    def answered(self) -> list[Call]:
        """In the order of their answers."""
        found = [(call.left_s, call) for call in self.all() if call.left_s is not None]
        return [call for _, call in sorted(found, key=lambda pair: pair[0])]
