from __future__ import annotations

import base64
from array import array

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from scripts.load.judging import bounds
from scripts.load.judging.admissions import Bound
from scripts.load.plan import Admitted
from scripts.load.scenario import Scenario
from service.admission.models import LimitState, Policy
from service.api import ratelimit_fields
from service.settings.limits import LimitSettings


@given(
    tokens=st.integers(1, 10_000),
    period_s=st.sampled_from([1, 60, 3600, 86_400]),
    burst=st.integers(1, 10_000),
)
def test_a_rate_read_from_an_answer_is_never_less_than_the_true_one(
    tokens: int, period_s: int, burst: int
) -> None:
    """Else a fleet that keeps its limits would be accused."""
    assume(burst * period_s / tokens < 300 * 86_400)  # no policy may take more than a year
    policy = Policy("flows", tokens=tokens, period_s=period_s, burst=burst)
    field = ratelimit_fields.quotas([LimitState(policy, 1, 0, 0)])

    found = bounds.of_field(field).get("flows")

    if policy.window_s == 1:
        assert found is None
    else:
        assert found is not None
        assert found.burst == burst
        assert found.rate_per_s >= tokens / period_s


def admitted(policies: str, *, group: str = "visitors", count: int = 3) -> Admitted:
    moments = base64.b64encode(array("d", [0.0] * count).tobytes()).decode()
    return Admitted(
        group=group, policies=policies, principal="127.1.0.1", offered=count, sent=moments,
        answered=moments,
    )  # fmt: skip


def test_every_policy_of_an_answer_is_measured() -> None:
    both = admitted('"flows";q=30;w=60, "whole_client";q=300;w=60')

    found = bounds.found([both], {}, seconds=1)

    assert [(one.policy, one.burst, one.admitted) for one in found] == [
        ("flows", 30, 3),
        ("whole_client", 300, 3),
    ]


def test_what_is_expected_of_a_limit_wins_over_what_an_answer_says_of_it() -> None:
    found = bounds.found(
        [admitted('"flows";q=30;w=60')], {"flows": Bound("flows", 0.0, 1)}, seconds=1
    )

    assert found[0].worst_excess == pytest.approx(2)


def test_a_fleet_wide_policy_is_one_bucket_for_all_groups() -> None:
    limits = LimitSettings.model_validate(
        {"shop": {"rate": "1/minute", "burst": 4, "scope": "fleet", "routes": ["flows"]}}
    )

    found = bounds.found(
        [admitted('"shop";q=4;w=240'), admitted('"shop";q=4;w=240', group="others")],
        bounds.of_settings(limits),
        seconds=1,
    )

    assert [(one.group, one.admitted) for one in found] == [("all", 6)]
    assert found[0].worst_excess == pytest.approx(2)


def test_a_scenario_says_what_it_expects_with_the_burst_of_the_settings() -> None:
    made = Scenario.model_validate(
        {
            "name": "x", "title": "x", "purpose": "x", "duration_s": 1,
            "limits": {"flows": {"rate": "60/minute"}, "health": {"rate": "9/second", "burst": 3}},
            "groups": [{
                "name": "a", "connections": 1, "schedule": {"kind": "closed"},
                "routes": [{"name": "GET /", "path": "/"}],
            }],
        }
    )  # fmt: skip

    assert bounds.of_scenario(made, {"flows": Bound("flows", 0.5, 30, cost=5)}) == {
        "flows": Bound("flows", 1.0, 60, cost=5),
        "health": Bound("health", 9.0, 3),
    }
