"""The rulebook in force in this worker."""

from __future__ import annotations

from service.admission.rulebook import Rulebook


class Rules:
    """``current`` is replaced as a whole: who holds a rulebook keeps a consistent one."""

    def __init__(self, own: Rulebook) -> None:
        self._current = own

    @property
    def current(self) -> Rulebook:
        """What holds now."""
        return self._current

    async def start(self) -> None:
        """Take what the fleet has agreed on, and go on watching it."""

    async def stop(self) -> None:
        """Watch no longer; what holds now goes on holding."""

    def __repr__(self) -> str:
        return f"<Rules {self._current.version}>"
