"""``tollgate serve``."""

from __future__ import annotations

import argparse
import asyncio

import structlog

from service.cli import context
from service.cli.soundness import check_soundness
from service.database.budget import connection_budget
from service.database.standing import standing
from service.errors import ConfigurationError, TollgateError
from service.server import serve as serve_until_told
from service.settings import Settings, load
from service.settings.needed import missing

log = structlog.get_logger()


def serve(_arguments: argparse.Namespace) -> int:
    """Serve until SIGTERM, SIGINT or SIGQUIT; SIGHUP reads the settings again."""
    settings = _complete()
    return serve_until_told(
        settings, reload=_complete, before_workers=lambda: asyncio.run(_look_at_database(settings))
    )


async def _look_at_database(settings: Settings) -> None:
    """Once for all workers. A database that is away, or refuses to tell, stops nothing here."""
    async with context.database(settings) as database:
        try:
            await connection_budget(
                database,
                workers=settings.server.workers,
                pool_max=settings.database.pool_max,
                pooler=settings.database.pooler,
            )
            await standing(database)
        except TollgateError as error:
            log.warning("database_not_looked_at", reason=error.message)


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
    check_soundness(settings)
    return settings
