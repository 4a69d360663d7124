"""What changed between two looks at a fleet, in words."""

from __future__ import annotations

from collections.abc import Iterator

from scripts.load.pages import Page
from scripts.load.record import Event


def changes(before: Page, now: Page, at: float) -> Iterator[Event]:
    """``at``: when ``now`` was seen."""
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
        yield Event(
            at=at, kind="fleet", text=f"replicas that do not answer: {before.silent} → {now.silent}"
        )
