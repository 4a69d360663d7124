"""How late the event loop comes back: what every request waits beside its own work."""

from __future__ import annotations

import asyncio

#: Looked at so often; what blocks the loop for less is no trouble.
INTERVAL_S = 0.25


class Lag:
    """``worst_ms`` of all looks since it was last asked for."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._worst_s = 0.0
        self._expected_s = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        self._expected_s = self._loop.time() + INTERVAL_S
        self._timer = self._loop.call_at(self._expected_s, self._look)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def worst_ms(self) -> float:
        worst_s, self._worst_s = self._worst_s, 0.0
        return round(worst_s * 1000, 1)

    def _look(self) -> None:
        self._worst_s = max(self._worst_s, self._loop.time() - self._expected_s)
        self.start()
