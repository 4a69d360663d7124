"""How changes of the data reach a worker's caches."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge

CHANNELS = ("postgres", "redis")


class ChangeCounts:
    """Changes are few: they are counted where they happen."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._connected = Gauge(
            "tollgate_flow_changes_connected",
            "Is the connection there by which changes of flows are told? 0: not in every worker of"
            " the replica. channel: postgres, redis.",
            ["channel"],
            registry=registry,
            multiprocess_mode="livemin",
        )
        self._heard = Counter(
            "tollgate_flow_changes_heard",
            "Changes of flows as workers heard of them. channel: postgres (each change), redis"
            " (each cached value), record (found there: not heard, or too large to be told).",
            ["channel"],
            registry=registry,
        )
        self._gaps = Counter(
            "tollgate_flow_changes_gaps",
            "Connections made anew, before which changes may have been missed; the first of each"
            " worker is counted. channel: postgres, redis.",
            ["channel"],
            registry=registry,
        )
        for channel in CHANNELS:
            self._heard.labels(channel)
            self._gaps.labels(channel)
        self._heard.labels("record")

    def connected(self, *, postgres: bool, redis: bool) -> None:
        """As this worker last saw it."""
        self._connected.labels("postgres").set(postgres)
        self._connected.labels("redis").set(redis)

    def heard(self, channel: str) -> None:
        self._heard.labels(channel).inc()

    def gap(self, channel: str) -> None:
        self._gaps.labels(channel).inc()
