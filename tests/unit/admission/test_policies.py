"""From settings to a rulebook."""

from __future__ import annotations

from service.admission.models import Policy
from service.admission.policies import rulebook_from
from service.settings import LimitSettings, PolicySettings, Rate


def test_policies_come_from_the_settings_by_name() -> None:
    settings = LimitSettings(
        start_job=PolicySettings(rate=Rate(5, 1), burst=9, on_outage="closed", shadow=True)
    )
    policies = rulebook_from(settings).policies
    assert policies["start_job"] == Policy("start_job", 5, 1, 9, "closed", shadow=True)
    assert policies["status"] == Policy("status", 60, 60, 60)
    assert set(policies) == set(LimitSettings().route_classes)
