"""From the limits of the settings to a rulebook."""

from __future__ import annotations

from typing import TYPE_CHECKING

from service.admission.models import Policy
from service.admission.rulebook import Rulebook

if TYPE_CHECKING:
    from service.settings import LimitSettings


def rulebook_from(settings: LimitSettings) -> Rulebook:
    """All policies, checked as a whole; raises ConfigurationError."""
    policies = {}
    for name in type(settings).model_fields:
        limit = getattr(settings, name)
        policies[name] = Policy(
            name=name,
            tokens=limit.rate.tokens,
            period_s=limit.rate.period_s,
            burst=limit.burst or limit.rate.tokens,
            on_outage=limit.on_outage,
            shadow=limit.shadow,
        )
    return Rulebook(version="files", policies=policies, routes={name: (name,) for name in policies})
