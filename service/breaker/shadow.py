"""One worker's own breaker, for while Redis is away: the same rules, counted alone.

It is kept warm by every outcome and answer of the fleet's breaker, so it starts an outage with
what this worker knows. Without Redis, N workers send a failing dependency at most N × threshold
calls, then N probes per recovery time.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from service.breaker.models import BreakerSnapshot, Outcome, Permit, State
from service.errors import CircuitOpen

if TYPE_CHECKING:
    from service.settings import BreakerSettings

#: A caller refused because of a probe in flight may ask again this soon.
_PROBE_WAIT_S = 1.0


class ShadowBreaker:
    """``clock`` is monotonic, in seconds."""

    def __init__(
        self, settings: BreakerSettings, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._threshold = settings.failure_threshold
        self._recovery_s = settings.recovery_seconds
        self._lease_s = settings.probe_lease_seconds
        self._clock = clock
        self._state: State = "closed"
        self._generation = 0
        self._streak = 0
        self._open_until_s = 0.0
        self._pause_until_s = 0.0
        self._probe: str | None = None
        self._probe_until_s = 0.0

    def acquire(self, token: str) -> Permit:
        """A ``local`` permit, or CircuitOpen."""
        if (wait_s := self.wait_s()) > 0:
            raise CircuitOpen(retry_after_s=wait_s)
        if self._state != "closed":
            self._enter("half-open")
            self._probe, self._probe_until_s = token, self._clock() + self._lease_s
        return Permit(self._generation, token, "local")

    def report(self, permit: Permit, outcome: Outcome) -> None:
        """The outcome of a local permit; one of an older generation changes nothing."""
        if permit.generation != self._generation:
            return
        if self._state == "half-open":
            if permit.token == self._probe:
                self._judge_probe(outcome)
        else:
            self.observe(outcome)

    def observe(self, outcome: Outcome) -> None:
        """The outcome of a call the fleet's breaker permitted: counted, no probe's verdict."""
        if outcome is Outcome.OK:
            self._streak = 0
        elif outcome is Outcome.FAIL and self._state == "closed":
            self._streak += 1
            if self._streak >= self._threshold:
                self._open(self._recovery_s)

    def mirror_closed(self) -> None:
        """The fleet's breaker admits calls."""
        if self._state != "closed":
            self._enter("closed")

    def mirror_open(self, wait_s: float) -> None:
        """The fleet's breaker refuses calls for this long."""
        self._open(wait_s)

    def pause(self, seconds: float) -> None:
        """Let nobody call for a while; a shorter pause never ends a longer one."""
        self._pause_until_s = max(self._pause_until_s, self._clock() + seconds)

    def wait_s(self) -> float:
        """How long calls are refused from now on; none are if it is not above 0."""
        now_s = self._clock()
        wait_s = self._pause_until_s - now_s
        if self._state == "open":
            wait_s = max(wait_s, self._open_until_s - now_s)
        elif self._state == "half-open" and self._probe is not None:
            wait_s = max(wait_s, min(self._probe_until_s - now_s, _PROBE_WAIT_S))
        return wait_s

    def snapshot(self) -> BreakerSnapshot:
        wait_s = self.wait_s()
        state = "half-open" if self._state == "open" and wait_s <= 0 else self._state
        wait_ms = max(0, round(wait_s * 1000))
        return BreakerSnapshot(state, self._streak, wait_ms, self._generation, degraded=True)

    def _judge_probe(self, outcome: Outcome) -> None:
        if outcome is Outcome.OK:
            self._enter("closed")
        elif outcome is Outcome.FAIL:
            self._open(self._recovery_s)
        else:
            self._probe = None

    def _open(self, wait_s: float) -> None:
        self._enter("open")
        self._open_until_s = self._clock() + wait_s

    def _enter(self, state: State) -> None:
        self._state = state
        self._generation += 1
        self._streak = 0
        self._probe = None
