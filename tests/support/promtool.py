"""promtool, which comes with Prometheus: ``apt install prometheus`` in Debian."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from uuid import uuid4

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

PROMTOOL = shutil.which("promtool")
needed = pytest.mark.skipif(
    PROMTOOL is None, reason="promtool is not on the PATH (Debian: apt install prometheus)"
)
RULES = Path(__file__).parents[2] / "config" / "prometheus"
FIRING = 'count by (alertname, severity) (ALERTS{alertstate="firing"})'
#: Of the pages that are fed to the rules, one after the other.
HELD_MINUTES = 20


def promtool(*arguments: str, given: str = "") -> tuple[int, str]:
    """Its exit code, and all it said."""
    assert PROMTOOL is not None
    done = subprocess.run(
        [PROMTOOL, *arguments], input=given, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout + done.stderr


def firing(folder: Path, *pages: str) -> set[str]:
    """The alerts that fire at the end, where each page is what was scraped for a while.

    Asked of promtool with the shipped rules: it is told that none fires, and says what it got.
    """
    series: dict[str, list[float | None]] = {"up": [1.0] * len(pages)}
    for number, page in enumerate(pages):
        for name, value in samples(page):
            series.setdefault(name, [None] * len(pages))[number] = value
    test = {
        "rule_files": [str(file) for file in sorted(RULES.glob("*.rules.yml"))],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": [
                    {"series": labelled(name), "values": " ".join(map(_held, values))}
                    for name, values in series.items()
                ],
                "promql_expr_test": [
                    {
                        "expr": FIRING,
                        "eval_time": f"{HELD_MINUTES * len(pages) - 1}m",
                        "exp_samples": [],
                    }
                ],
            }
        ],
    }
    file = folder / f"{uuid4()}.yml"
    file.write_text(yaml.safe_dump(test))
    code, said = promtool("test", "rules", str(file))
    if code == 0:
        return set()
    got = re.search(r"got: (.*)", said)
    assert got, said
    return set(re.findall(r'alertname="(\w+)"', got[1]))


def samples(page: str) -> Iterable[tuple[str, float]]:
    """Every series of a page with its value."""
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            labels = ",".join(f'{k}="{v}"' for k, v in sorted(sample.labels.items()))
            yield f"{sample.name}{{{labels}}}" if labels else sample.name, sample.value


def labelled(series: str) -> str:
    """With what Prometheus adds to whatever it scrapes."""
    name, _, labels = series.partition("{")
    return f'{name}{{job="tollgate",instance="a",{labels or "}"}'.replace(",}", "}")


def _held(value: float | None) -> str:
    if value is None:
        return f"_x{HELD_MINUTES - 1}"
    # promtool knows no infinity here; nothing that is counted comes near.
    bounded = max(-1e300, min(1e300, value))
    return (
        f"{bounded:g}x{HELD_MINUTES - 1}"
        if bounded == int(bounded)
        else (f"{bounded!r}x{HELD_MINUTES - 1}")
    )
