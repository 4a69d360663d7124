"""``tollgate limits list``."""

from __future__ import annotations

import argparse

from service.admission.policies import rulebook_from
from service.cli.terminal import table
from service.settings import load


def show(_arguments: argparse.Namespace) -> int:
    """The policies of this configuration; asks no server."""
    settings = load().settings
    given = {**settings.limits.route_classes, **settings.limits.further}
    rulebook = rulebook_from(settings.limits, key_secret=settings.admin.key_secret)
    table(
        ("POLICY", "RATE", "BURST", "FULL AFTER", "ON OUTAGE", "SHADOW"),
        (
            (
                name,
                str(given[name].rate),
                str(policy.burst),
                f"{policy.window_s} s",
                policy.on_outage,
                "yes" if policy.shadow else "no",
            )
            for name, policy in rulebook.policies.items()
        ),
    )
    return 0
