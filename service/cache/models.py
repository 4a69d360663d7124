"""What a cache answers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Cached:
    """``value`` None: known not to exist. ``age_s``: seconds since it was loaded.

    ``stale``: past its fresh age; a refresh is under way or has failed.
    """

    value: bytes | None
    age_s: float
    stale: bool


@dataclass(frozen=True, slots=True)
class CacheStatistics:
    """Counted since the start of this worker; ``entries`` is what it holds now."""

    entries: int
    local_hits: int
    fleet_hits: int
    stale_hits: int
    loads: int
    load_errors: int
