"""docs/cache.md names every metric of the caches, and none that is not there."""

from __future__ import annotations

import re
from pathlib import Path

from prometheus_client import CollectorRegistry

from service.metrics.cache import CacheCounts

PAGE = (Path(__file__).parents[3] / "docs" / "cache.md").read_text(encoding="utf-8")


def test_every_metric_is_documented() -> None:
    registry = CollectorRegistry()
    CacheCounts(registry)
    names = {
        f"{family.name}_total" if family.type == "counter" else family.name
        for family in registry.collect()
    }
    assert set(re.findall(r"^\| `(tollgate_cache_\w+)` \|", PAGE, re.MULTILINE)) == names
