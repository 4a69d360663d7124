"""What changes in a fleet while it is looked at, in words."""

from __future__ import annotations

from collections.abc import Iterator

from scripts.load.record import Event
from scripts.load.watching.pages import Page


class Changes:
    """``seen`` gives what is new since the last look, from ``first`` on."""

    def __init__(self, first: Page) -> None:
        self._before = first
        self._shedding = False

    def seen(self, now: Page, at: float) -> list[Event]:
        """``at``: when ``now`` was looked at."""
        shedding = now.shed > self._before.shed
        found = list(_between(self._before, now, at))
        if shedding != self._shedding:
            more = f"{now.shed - self._before.shed:,} turned away since the last look"
            text = f"turning away began: {more}" if shedding else "turning away ended"
            found.append(Event(at=at, kind="shed", text=text))
        self._before, self._shedding = now, shedding
        return found


def _between(before: Page, now: Page, at: float) -> Iterator[Event]:
    if now.breaker != before.breaker:
        text = f"circuit of the payment service {before.breaker_word} → {now.breaker_word}"
        yield Event(at=at, kind="breaker", text=text)
    for mode in sorted(now.degraded - before.degraded):
        yield Event(at=at, kind="degraded", text=f"{mode} began")
    for mode in sorted(before.degraded - now.degraded):
        yield Event(at=at, kind="degraded", text=f"{mode} ended")
    if now.workers != before.workers:
        yield Event(at=at, kind="fleet", text=f"workers {before.workers} → {now.workers}")
    if now.silent != before.silent:
        text = f"replicas that do not answer: {before.silent} → {now.silent}"
        yield Event(at=at, kind="fleet", text=text)
