from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from scripts.load import scenario
from scripts.load.judging import bounds, thresholds
from scripts.load.scenario import Group, Scenario, ScenarioInvalid
from service.settings.limits import LimitSettings

#: What each path is counted under.
POLICIES = {
    "/flows": "flows",
    "/flows/text-summary": "flows",
    "/text-summary/input_schema": "input_schema",
    "/text-summary/availability": "availability",
    "/text-summary/demo": "demo",
    "/text-summary+free/status?job_id={job}": "status",
    "/health": "health",
}


def written(**more: Any) -> dict[str, Any]:
    group = {
        "name": "visitors",
        "connections": 4,
        "schedule": {"kind": "constant", "rate": 10},
        "routes": [{"name": "GET /flows", "path": "/flows"}],
    }
    return {
        "name": "x", "title": "x", "purpose": "x", "duration_s": 1, "groups": [group], **more
    }  # fmt: skip


def groups() -> Iterator[tuple[str, Scenario, Group]]:
    for name in scenario.names():
        made = scenario.read(name)
        for group in made.groups:
            yield f"{name}-{group.name}", made, group


@pytest.mark.parametrize("name", scenario.names())
def test_a_shipped_scenario_ends_within_half_a_minute(name: str) -> None:
    assert scenario.read(name).duration_s <= 30


@pytest.mark.parametrize(
    ("made", "group"), [pytest.param(made, group, id=name) for name, made, group in groups()]
)
def test_the_clients_of_a_shipped_scenario_keep_to_their_limits(
    made: Scenario, group: Group
) -> None:
    """But the one who is there to break them. A quarter of the rate leaves room for chance."""
    known = bounds.of_settings(LimitSettings())
    known |= bounds.of_scenario(made, known)
    weights = Counter[str]()
    for route in group.routes:
        weights[POLICIES[route.path]] += route.weight
    if group.purchase:
        weights["start_job"] = 1
    rate = group.rate or 0.0
    for policy, weight in weights.items():
        each = rate * weight / weights.total() / group.principals
        bound = known[policy]
        if group.name == "abuser":
            assert each == pytest.approx(100 * bound.rate_per_s)
        else:
            assert 60 * each + 5 <= bound.burst + 60 * bound.rate_per_s / 4


def test_thresholds_are_set_only_on_scenarios_that_there_are() -> None:
    assert set(thresholds.read().scenario) <= set(scenario.names())


def test_a_file_elsewhere_may_be_named_by_its_path(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text((scenario.FOLDER / "browse.toml").read_text())

    assert scenario.read(str(file)).name == "mine"


def test_an_unknown_name_is_answered_with_those_there_are() -> None:
    with pytest.raises(ScenarioInvalid, match=r"no scenario brows; there are: ab, abuse, browse"):
        scenario.read("brows")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"duration": 3}, "duration: Extra inputs"),
        ({"environment": {"PATH": "/"}}, "environment"),
        ({"limits": {"flows": {"rate": "lots"}}}, "limits.flows.rate: .*30/minute"),
        ({"groups": []}, "groups"),
        ({"reference": "wrk", "groups": written()["groups"] * 2}, "the same name"),
        ({"groups": [{**written()["groups"][0], "routes": []}]}, "either routes or a purchase"),
        ({"groups": [{**written()["groups"][0], "begins": 1}]}, "begin before it ends"),
        (
            {"groups": [{**written()["groups"][0], "routes": [{"name": "x", "path": "/{job}"}]}]},
            "no jobs are bought",
        ),
    ],
)
def test_a_mistake_is_told_with_its_place(change: dict[str, Any], says: str) -> None:
    with pytest.raises(ScenarioInvalid, match=f"wrong.toml: .*{says}"):
        scenario.parse(written(**change), "wrong.toml")


def test_a_fleet_gets_the_limits_of_the_scenario_unless_its_environment_says_otherwise() -> None:
    made = scenario.parse(
        written(
            limits={"flows": {"rate": "60/minute", "burst": 7}, "health": {"rate": "9/second"}},
            environment={"TOLLGATE_LIMITS__FLOWS__BURST": "70"},
        ),
        "x.toml",
    )

    assert made.fleet_environment == {
        "TOLLGATE_LIMITS__FLOWS__RATE": "60/minute",
        "TOLLGATE_LIMITS__FLOWS__BURST": "70",
        "TOLLGATE_LIMITS__HEALTH__RATE": "9/second",
    }


def test_the_rate_of_a_scenario_counts_each_group_for_its_part_of_the_run() -> None:
    half = {**written()["groups"][0], "name": "late", "begins": 0.5}

    assert scenario.parse(written(groups=[*written()["groups"], half]), "x.toml").rate == 15
