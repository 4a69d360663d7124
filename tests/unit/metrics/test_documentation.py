"""The pages for operators say what there is: every metric, every alert, and what they look at."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

from service.health import Mode
from service.metrics.degraded import Resource
from tests.support.collectors import Declared, declared, table
from tests.support.promql import Selected, grouped_by, recorded, selected

ROOT = Path(__file__).parents[3]
PROMETHEUS = ROOT / "config" / "prometheus"
DASHBOARD = json.loads((ROOT / "config" / "grafana" / "dashboards" / "tollgate.json").read_text())
RULES: list[dict[str, Any]] = [
    rule
    for file in sorted(PROMETHEUS.glob("*.rules.yml"))
    for group in yaml.safe_load(file.read_text())["groups"]
    for rule in group["rules"]
]
ALERTS = [rule for rule in RULES if "alert" in rule]
#: What Prometheus itself knows of a target, and what it adds to every series.
SERIES = {name: labels for each in declared() for name, labels in each.series().items()} | {
    "up": ("job",)
}
TARGET = {"instance", "job"}
ALL = {name: each for each in declared() for name in each.series()}


def dashboard_expressions() -> list[str]:
    return [target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", [])]


EXPRESSIONS = [*(rule["expr"] for rule in RULES), *dashboard_expressions()]


def test_page_describes_every_metric_as_it_describes_itself() -> None:
    page = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    assert page.partition("## All of them\n\n")[2] == table()


def faults_of(series: Selected) -> list[str]:
    if series.name not in SERIES:
        return [f"no metric {series.name}"]
    faults = [
        f"{series.name} has no label {label}"
        for label, _, _ in series.matchers
        if label not in TARGET and label not in SERIES[series.name]
    ]
    for label, operator, value in series.matchers:
        known = values_of(series.name, label)
        asked = value.split("|") if "~" in operator else [value]
        if known is not None:
            faults += [f"{series.name}: no {label}={one}" for one in asked if one not in known]
    return faults


def values_of(name: str, label: str) -> set[str] | None:
    """All values of a label, where they are a closed set that is written down somewhere."""
    each: Declared | None = ALL.get(name)
    if label == "le" and each is not None:
        return set(each.bounds)
    if label == "mode":
        return set(Mode)
    if label == "resource":
        return set(get_args(Resource))
    if label == "outcome" and each is not None:
        return set(re.findall(r"[\w-]+", each.text))
    return None


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_expression_asks_for_what_there_is(expression: str) -> None:
    assert [fault for series in selected(expression) for fault in faults_of(series)] == []
    known = {label for labels in SERIES.values() for label in labels} | TARGET
    assert grouped_by(expression) <= known
    assert recorded(expression) <= {rule["record"] for rule in RULES if "record" in rule}
    assert list(selected(expression)) or recorded(expression)


def test_alerts_have_a_severity_a_text_and_a_section_of_their_own() -> None:
    page = (ROOT / "docs" / "alerts.md").read_text(encoding="utf-8")
    sections = re.findall(r"(?m)^### (\w+)\n\n\*\*(page|ticket)\*\* · (.+)", page)
    told_of = sorted((name, severity) for name, severity, _ in sections)
    assert told_of == sorted((alert["alert"], alert["labels"]["severity"]) for alert in ALERTS)
    for alert in ALERTS:
        told = alert["annotations"]
        assert set(told) == {"summary", "description", "runbook"}
        assert told["runbook"] == f"docs/alerts.md#{alert['alert'].lower()}"
        assert len(told["summary"]) > 15
        assert len(told["description"]) > 15
    assert len({alert["alert"] for alert in ALERTS}) == len(ALERTS)


def test_every_degraded_mode_has_one_alert() -> None:
    own = [
        value
        for alert in ALERTS
        for series in list(selected(alert["expr"]))[:1]
        for label, operator, value in series.matchers
        if label == "mode" and operator == "="
    ]
    assert sorted(own) == sorted(Mode)


def test_every_alert_is_seen_firing_by_a_rule_test() -> None:
    tested = "".join(file.read_text() for file in (PROMETHEUS / "tests").glob("*.yml"))
    fired = set(re.findall(r'alertname="(\w+)"', tested))
    assert fired == {alert["alert"] for alert in ALERTS}


def test_sample_loads_all_rules() -> None:
    sample = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    assert sorted(sample["rule_files"]) == sorted(
        file.name for file in PROMETHEUS.glob("*.rules.yml")
    )


def test_dashboard_shows_every_metric_of_ours() -> None:
    shown = {series.name for expr in dashboard_expressions() for series in selected(expr)}
    missing = {
        each.name
        for each in declared()
        if not shown & set(each.series()) and each.name.startswith("tollgate_")
    }
    # Two for whoever reads the log (it names flow and payment), one for whoever changes limits.
    assert missing == {
        "tollgate_flows_unreadable_total",
        "tollgate_payments_unreadable_total",
        "tollgate_admission_rules_reloads_total",
    }


def test_dashboard_shows_of_now_only_what_is_now() -> None:
    """Over a range, the last value of a series that is gone would stand there for an hour."""
    by_series = [
        (panel["title"], target)
        for panel in DASHBOARD["panels"]
        if panel["type"] == "stat"
        for target in panel["targets"]
        if " by " in target["expr"]
    ]
    assert {title for title, _ in by_series} == {"Degraded modes", "Versions"}
    for title, target in by_series:
        assert (target.get("instant"), target.get("range")) == (True, False), title


def test_dashboard_holds_together() -> None:
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        at = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert not cells & taken, panel["title"]
        assert at["x"] + at["w"] <= 24
        taken |= cells
    assert [panel["title"] for panel in panels if panel["type"] == "row"] == [
        "Now",
        "Traffic and latency",
        "Admission by policy",
        "Breaker and payment",
        "Cache",
        "Database",
        "Jobs and settlement",
        "Workers",
    ]
    assert {each["name"] for each in DASHBOARD["templating"]["list"]} == {"datasource", "replica"}
