"""What the service makes do with: degraded modes, and how much of its own room is taken.

Both are asked for when numbers are handed over; who they are about knows nothing of it. The modes
are a closed set (``service.health.Mode``), so are the resources.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Literal

from prometheus_client import CollectorRegistry, Gauge

from service.metrics.plain import HandOver

Resource = Literal["database_connections", "payment_calls", "waiting_clients", "runs"]


class DegradedModes:
    def __init__(self, registry: CollectorRegistry) -> None:
        self._hand_over = HandOver.of(registry)
        self._degraded = Gauge(
            "tollgate_degraded",
            "1 while a worker of the replica makes do in this mode, else 0;"
            " docs/alerts.md says what each means.",
            ("mode",),
            registry=registry,
            multiprocess_mode="livemax",
        )

    def watch(self, modes: Iterable[str], now: Callable[[], Collection[str]]) -> None:
        """Show for each of ``modes`` whether it is among those of now."""
        shown = {str(mode): self._degraded.labels(str(mode)) for mode in modes}

        def hand_over() -> None:
            present = set(map(str, now()))
            for mode, gauge in shown.items():
                gauge.set(mode in present)

        self._hand_over.add(hand_over)


class Capacity:
    def __init__(self, registry: CollectorRegistry) -> None:
        self._hand_over = HandOver.of(registry)
        self._used, self._limit = (
            Gauge(
                f"tollgate_capacity_{name}",
                f"{text}, all workers of the replica together. resource: database_connections,"
                " payment_calls (the bulkhead), waiting_clients (for a change of a job), runs.",
                ("resource",),
                registry=registry,
                multiprocess_mode="livesum",
            )
            for name, text in (
                ("used", "How many of a bounded resource are in use"),
                ("limit", "How many of a bounded resource there are at most"),
            )
        )

    def watch(self, resource: Resource, used: Callable[[], int], *, limit: int) -> None:
        """Show from now on how much of this is in use."""
        shown = self._used.labels(resource)
        self._limit.labels(resource).set(limit)
        self._hand_over.add(lambda: shown.set(used()))
