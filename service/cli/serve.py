"""``tollgate serve``."""

from __future__ import annotations

import argparse

from service.admission.models import policies_from
from service.cli.context import missing
from service.errors import ConfigurationError
from service.server import serve as serve_until_told
from service.settings import Settings, load


def serve(_arguments: argparse.Namespace) -> int:
    """Serve until SIGTERM, SIGINT or SIGQUIT; SIGHUP reads the settings again."""
    return serve_until_told(_complete(), reload=_complete)


def _complete() -> Settings:
    """The settings, with all that serving needs."""
    settings = load().settings
    faults = [
        *missing("redis.url", settings.redis.url),
        *missing("database.url", settings.database.url),
        *missing("payment.url", settings.payment.url),
        *missing("payment.api_key", settings.payment.api_key),
    ]
    if faults:
        raise ConfigurationError("\n".join(faults))
    policies_from(settings.limits)
    return settings
