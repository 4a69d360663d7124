"""The alert rules by their own tests, and by promtool's opinion."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from tests.support.promtool import RULES, needed, promtool

pytestmark = needed


@pytest.mark.parametrize(
    "file", sorted((RULES / "tests").glob("*.yml")), ids=lambda file: file.stem
)
def test_rules_fire_when_they_should_and_only_then(file: Path) -> None:
    code, said = promtool("test", "rules", str(file))
    assert code == 0, said


def test_sample_and_rules_are_sound() -> None:
    code, said = promtool("check", "config", str(RULES / "prometheus.yml"))
    assert code == 0, said
    assert said.count("rules found") == len(list(RULES.glob("*.rules.yml")))


def test_dashboard_asks_in_promql(tmp_path: Path) -> None:
    """Grafana says so of each panel when it is opened; nobody opens them all."""
    dashboard = json.loads((RULES.parent / "grafana/dashboards/tollgate.json").read_text())
    asked = [t["expr"] for panel in dashboard["panels"] for t in panel.get("targets", [])]
    rules = [
        {"record": f"panel:{number}", "expr": expr.replace("$__rate_interval", "1m")}
        for number, expr in enumerate(asked)
    ]
    file = tmp_path / "dashboard.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    code, said = promtool("check", "rules", str(file))
    assert code == 0, said
    assert f"{len(asked)} rules found" in said
