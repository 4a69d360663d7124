"""A limit on what is in flight of some kinds, held to by the wait for one scarce thing."""

from __future__ import annotations

from collections.abc import Collection

from service.overload.limit import AdaptiveLimit
from service.overload.models import SHARES, Priority, Short

#: A client that has had more than others may fill this part of what its kind may.
GREEDY = 0.75
#: From one look to the next, of what was in flight at most.
FADING = 0.9


class Bound:
    """``sample`` the wait now and then, ``look`` what it means, ask for the ``rooms``."""

    def __init__(
        self, short: Short, kinds: Collection[Priority], *, target_s: float, least: int
    ) -> None:
        self.short = short
        self.kinds = [priority for priority in Priority if priority in kinds]
        self._limit = AdaptiveLimit(target_s=target_s, least=least)
        #: By priority: what its requests may fill, and those of the greedy. None: no limit, or
        #: none for this kind.
        self.rooms: list[tuple[int, int] | None] | None = None
        #: Turned away since the last look.
        self.refused = 0
        #: In seconds, as of the last look.
        self.delay_s = 0.0
        self._delays: list[float] = []
        self._most = 0
        #: In flight at most of late; fades.
        self.usual = 0.0

    @property
    def limit(self) -> int | None:
        return None if self._limit.value is None else int(self._limit.value)

    def in_flight(self, of_kind: list[int]) -> int:
        """Those that count here."""
        return sum([of_kind[kind] for kind in self.kinds])

    def sample(self, delay_s: float, in_flight: int) -> None:
        self._delays.append(delay_s)
        self._most = max(self._most, in_flight)

    def look(self) -> None:
        """Before there is a limit, what three of four samples were above counts: then there was
        always somebody waiting, and not only one request that computed for long. What is held to
        then is the middle, as half of those let in meet more than that.
        """
        delays, self._delays = sorted(self._delays), []
        part = 4 if self._limit.value is None else 2
        self.delay_s = delays[(len(delays) - 1) // part]
        self._limit.look(self.delay_s, in_flight=self._most, pressed=self.refused > 0)
        self.usual = max(self._most, self.usual * FADING)
        self._most = self.refused = 0
        self.rooms = None if self._limit.value is None else self._rooms(self._limit.value)

    def alarm(self, in_flight: int) -> bool:
        """Many more than usual came at once, and wait: no second look. True: there is a limit."""
        self._limit.alarm(in_flight)
        self.rooms = None if self._limit.value is None else self._rooms(self._limit.value)
        return self.rooms is not None

    def lift(self) -> None:
        self._limit.value = self.rooms = None

    def _rooms(self, limit: float) -> list[tuple[int, int] | None]:
        rooms: list[tuple[int, int] | None] = [None] * len(Priority)
        for kind in self.kinds:
            room = max(1, round(limit * SHARES[kind]))
            rooms[kind] = room, max(1, int(room * GREEDY))
        return rooms
