"""``tollgate limits list``."""

from __future__ import annotations

import argparse

from service.admission.policies import rulebook_from
from service.cli.terminal import table
from service.settings import load


def show(_arguments: argparse.Namespace) -> int:
    """The policies of this configuration; asks no server."""
    settings = load().settings
    rates = {
        name: getattr(settings.limits, name).rate for name in type(settings.limits).model_fields
    }
    table(
        ("POLICY", "RATE", "BURST", "FULL AFTER", "ON OUTAGE", "SHADOW"),
        (
            (
                name,
                str(rates.get(name, f"{policy.tokens}/{policy.period_s} s")),
                str(policy.burst),
                f"{policy.window_s} s",
                policy.on_outage,
                "yes" if policy.shadow else "no",
            )
            for name, policy in rulebook_from(settings.limits).policies.items()
        ),
    )
    return 0
