"""How many requests at once keep the wait short: found by trying, never configured.

A gradient rule, after Netflix's concurrency-limits and Envoy's adaptive concurrency, but judged by
the delay alone (as WeChat's DAGOR and CoDel do): a ratio of response times would take a payment
service that has become slow for an overload. Too long a wait lowers the limit by as much as it is
too long; a short one, while requests are being turned away, raises it by the room that is left; a
time without either lifts it. There is no limit until one is needed, so the first is made of what
there was in flight when the wait was found too long.
"""

from __future__ import annotations

#: No limit until the wait is so many times as long as it may be: what is held to then is stricter
#: than what is borne before, or it would come and go, and small troubles would cost refusals.
ALARM = 4.0
#: No limit below: so few keep a worker busy even if they wait for others now and then.
FLOOR = 6
#: No single look takes more than half: it may have been a stroke of bad luck.
MOST_CUT = 0.5
#: No single look adds more than this part: what is too much is waited for by all who come until the
#: next one. Ten times as many are found in a second and a half.
MOST_RAISED = 1 / 6
#: Looks without anybody turned away and with short waits, after which the limit is lifted.
CALM_LOOKS = 20


class AdaptiveLimit:
    """``value`` is None while there is none. Pure: ``look`` is told all it needs."""

    def __init__(self, *, target_s: float, least: int) -> None:
        """No more than ``least`` in flight never give cause for a limit."""
        self._target_s = target_s
        self._least = least
        self._calm = 0
        self.value: float | None = None

    def look(self, delay_s: float, *, in_flight: int, pressed: bool) -> None:
        """After some time with this delay and at most so many in flight; ``pressed``: all there
        was room for, and more, had come.
        """
        if self.value is None:
            if delay_s > self._target_s * ALARM and in_flight > self._least:
                self.value = self._cut(in_flight, delay_s)
                self._calm = 0
        elif delay_s > self._target_s:
            # What was never reached holds nothing back: what there was is too much already.
            base = self.value if pressed else min(self.value, in_flight)
            self.value = self._cut(base, delay_s)
            self._calm = 0
        elif pressed:
            self.value *= 1 + MOST_RAISED * (1 - delay_s / self._target_s)
            self._calm = 0
        else:
            self._calm += 1
            if self._calm >= CALM_LOOKS:
                self.value = None

    def alarm(self, in_flight: int) -> None:
        """Far too many, so suddenly that the next look would come too late."""
        if self.value is None and in_flight > self._least:
            self.value = max(FLOOR, in_flight * MOST_CUT)
            self._calm = 0

    def _cut(self, base: float, delay_s: float) -> float:
        return max(FLOOR, base * max(MOST_CUT, self._target_s / delay_s))

    def __repr__(self) -> str:
        return f"<AdaptiveLimit {'none' if self.value is None else int(self.value)}>"
