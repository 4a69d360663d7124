"""A Redis server that a test may mistreat, and for how long."""

from __future__ import annotations

from threading import Event

from scripts.devservers import EmbeddedValkey


class PersistentValkey(EmbeddedValkey):
    """Writes every command down, as a deployment that cares does."""

    def command(self) -> list[str]:
        return [*super().command(), "--appendonly", "yes"]


def pause(seconds: float) -> None:
    """How long a fault lasts is what such a test is about: nothing else is waited for."""
    Event().wait(seconds)
