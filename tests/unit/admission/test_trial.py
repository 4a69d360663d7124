from __future__ import annotations

import pytest

from service.admission.trial import with_shadow
from service.errors import ConfigurationError
from service.settings import LimitSettings

LIMITS = LimitSettings.model_validate(
    {
        "flows": {"rate": "30/minute", "burst": 7},
        "whole": {"rate": "100/second", "scope": "fleet", "routes": ["*"]},
        "tiers": {"gold": {"flows": {"rate": "300/minute"}}},
        "deny": {"networks": ["198.51.100.0/24"]},
    }
)


@pytest.mark.parametrize("policy", ["flows", "start_job", "whole"])
def test_one_policy_goes_on_trial_and_comes_back_and_all_else_stays(policy: str) -> None:
    on_trial = with_shadow(LIMITS, policy, True)
    assert {**on_trial.route_classes, **on_trial.further}[policy].shadow
    assert on_trial != LIMITS
    assert with_shadow(on_trial, policy, False) == LIMITS


@pytest.mark.parametrize(
    ("policy", "shadow", "said"),
    [("nosuch", True, "no policy nosuch"), ("flows", False, "enforced already"),
     ("keys", True, "no policy keys"), ("deny", True, "no policy deny")],
)  # fmt: skip
def test_what_cannot_be_done_is_said(policy: str, shadow: bool, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        with_shadow(LIMITS, policy, shadow)
