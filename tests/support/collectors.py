"""Every collector that a worker has, as declared."""

from __future__ import annotations

from dataclasses import dataclass

from prometheus_client import CollectorRegistry
from prometheus_client.metrics import MetricWrapperBase

from service.metrics import HttpCounts, Metrics

#: What each kind of collector adds to its own name.
SUFFIXES = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}


@dataclass(frozen=True, slots=True)
class Declared:
    #: As in HELP and TYPE of the page.
    name: str
    kind: str
    text: str
    labels: tuple[str, ...]
    #: Upper bounds of a histogram's buckets, as shown.
    bounds: tuple[str, ...] = ()

    def series(self) -> dict[str, tuple[str, ...]]:
        """The names of its samples with their labels."""
        base = self.name.removesuffix("_total") if self.kind == "counter" else self.name
        return {
            base + suffix: self.labels + (("le",) if suffix == "_bucket" else ())
            for suffix in SUFFIXES[self.kind]
        }


def declared() -> list[Declared]:
    """All, by name; those that come into being with their first value included."""
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    HttpCounts(registry)
    metrics.census.jobs({"running": (0, 0.0)})
    metrics.census.results(tightest_s=None, stuck=0, lost=0, paid_late=0)
    metrics.census.backlog(0)
    found = [
        Declared(
            c._name + ("_total" if c._type == "counter" else ""),
            c._type,
            c._documentation,
            tuple(c._labelnames),
            tuple(_shown(bound) for bound in getattr(c, "_upper_bounds", c._kwargs["buckets"]))
            if c._type == "histogram"
            else (),
        )
        for c in registry._collector_to_names
        if isinstance(c, MetricWrapperBase)
    ]
    return sorted(found, key=lambda each: each.name)


def _shown(bound: float) -> str:
    return "+Inf" if bound == float("inf") else str(float(bound))


def table() -> str:
    """What docs/metrics.md has to say of them."""
    lines = ["| metric | type | what it tells |", "|---|---|---|"]
    for each in declared():
        labels = f"{{{','.join(each.labels)}}}" if each.labels else ""
        lines.append(f"| `{each.name}{labels}` | {each.kind} | {each.text} |")
    return "\n".join(lines) + "\n"
