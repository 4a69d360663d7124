"""What a cache answers, and what it counts."""

from __future__ import annotations

import time
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Cached:
    """``value`` None: known not to exist. Shared by all who asked: nobody changes it.

    ``loaded_at_s``: when its load began, on the monotonic clock. ``stale``: past its fresh age, a
    newer one is being loaded. ``degraded``: given though it is past its age, because that failed.
    """

    value: bytes | None
    loaded_at_s: float
    stale: bool = False
    degraded: bool = False

    @property
    def age_s(self) -> float:
        return max(0.0, time.monotonic() - self.loaded_at_s)


@dataclass(frozen=True, slots=True)
class Ages:
    """Given as fresh up to the one, and while or because it cannot be loaded anew to the other."""

    fresh_s: float
    stale_s: float


@dataclass(frozen=True, slots=True)
class LocalStatistics:
    """A worker's own tier: ``entries`` and ``bytes`` are what it holds, with ``unknowns`` apart."""

    hits: int
    #: Of all that was given, from whichever tier: past its fresh age, and because a load failed.
    stale: int
    degraded: int
    misses: int
    entries: int
    unknowns: int
    bytes: int


@dataclass(frozen=True, slots=True)
class FleetStatistics:
    """The tier in Redis; ``errors``: it was away, or did not answer in time."""

    hits: int
    stale: int
    misses: int
    errors: int


@dataclass(frozen=True, slots=True)
class LoadStatistics:
    """What was asked of the database: for values nobody had, and to refresh old ones.

    ``waits``: misses that waited for another worker's load; ``refused``: the gate stayed shut;
    ``void``: loaded, but changed meanwhile and so not kept.
    """

    misses: int
    refreshes: int
    errors: int
    refused: int
    waits: int
    void: int


@dataclass(frozen=True, slots=True)
class CacheStatistics:
    """Counted since the start of this worker."""

    local: LocalStatistics
    fleet: FleetStatistics
    loads: LoadStatistics
