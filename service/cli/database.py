"""``tollgate migrate``."""

from __future__ import annotations

import argparse
import asyncio
import time

from service.cli.terminal import complain, show
from service.database.migrate import migrate as apply_migrations
from service.errors import DatabaseUnavailable
from service.settings import DatabaseSettings, load
from service.settings.needed import required

RETRY_INTERVAL_S = 0.5


def migrate(arguments: argparse.Namespace) -> int:
    """Apply what is missing; safe when several do it at once."""
    settings = load().settings.database
    applied = asyncio.run(
        _migrate(required("database.url", settings.url), settings, arguments.wait)
    )
    for name in applied:
        show(f"applied {name}")
    if not applied:
        show("the schema is up to date")
    return 0


async def _migrate(url: str, settings: DatabaseSettings, wait_s: float) -> list[str]:
    until_s = time.monotonic() + wait_s
    told = False
    while True:
        try:
            return await apply_migrations(url, settings)
        except DatabaseUnavailable as error:
            if time.monotonic() >= until_s:
                raise
            if not told:
                complain(f"{error.message} Waiting up to {wait_s:g} s for it ...")
                told = True
        await asyncio.sleep(RETRY_INTERVAL_S)
