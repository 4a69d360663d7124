"""Whoever wants to know what the limiter does: the metrics."""

from __future__ import annotations

from typing import Protocol


class LimiterObserver(Protocol):
    """Called on the hot way, so synchronous and cheap."""

    def round_trip(self, seconds: float, size: int) -> None: ...
    def local_denial(self) -> None: ...
    def indeterminate(self, n: int) -> None: ...
