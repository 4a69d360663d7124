"""Which clients have had more than others of late."""

from __future__ import annotations

#: Clients known at a time; further ones count as new. Bounds memory, and the time to fade.
MOST_CLIENTS = 1024


class Crowd:
    """Requests let in by principal, the older ones counting less and less."""

    def __init__(self) -> None:
        self._recent: dict[str, int] = {}
        self._all = 0

    def __len__(self) -> int:
        return len(self._recent)

    def meet(self, principal: str) -> None:
        """It is here too, though it was not let in: it counts in the average."""
        if principal not in self._recent and len(self._recent) < MOST_CLIENTS:
            self._recent[principal] = 0

    def note(self, principal: str) -> None:
        """One of this principal's was let in."""
        self.meet(principal)
        if principal in self._recent:
            self._recent[principal] += 1
            self._all += 1

    def above_average(self, principal: str) -> bool:
        """Has it had more than the average of all that came? Never one that is alone."""
        return self._recent.get(principal, 0) * len(self._recent) > self._all

    def fade(self) -> None:
        """Half of it is forgotten."""
        self._recent = {name: number // 2 for name, number in self._recent.items() if number > 1}
        self._all = sum(self._recent.values())

    def clear(self) -> None:
        self._recent = {}
        self._all = 0
