"""Tollgate in one process, its flows from the cache or from PostgreSQL each time.

Run as ``python -m scripts.bench.lookups PORT cached|uncached``; settings from the environment.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator

import uvloop
from aiohttp import web

from scripts.loopback import LOOPBACK
from service.api import keys
from service.app import create_app
from service.database import Database
from service.errors import UnknownFlow
from service.flows.catalog import Catalog
from service.flows.definition import alias, definition_of
from service.flows.kept import Found, Kept
from service.flows.models import Flow, Variant
from service.flows.repository import FlowRepository
from service.logs import configure_logging
from service.settings import load
from service.settings.needed import required


class Uncached(Catalog):
    """What a look-up is without any cache: two queries by key, and the flow read from its JSON."""

    def __init__(self, database: Database) -> None:
        self._flows = FlowRepository(database)

    def at_hand(self, reference: str) -> None:
        """Nothing is."""

    async def find(self, reference: str) -> tuple[Found[Flow], Variant]:
        uid = await self._flows.uid_of(alias(reference))
        stored = await self._flows.find(uid) if uid else None
        if stored is None:
            raise UnknownFlow
        flow = definition_of(stored.document).flow(stored.uid)
        return Found(Kept(flow), time.monotonic(), False), flow.variant(None)


async def serve(port: int, *, cached: bool) -> None:
    settings = load().settings
    configure_logging(settings.logging)
    app = await create_app(settings, loops=False)

    async def without_cache(app: web.Application) -> AsyncIterator[None]:
        url = required("database.url", settings.database.url)
        database = Database(settings.database, url=url, application_name="tollgate-uncached")
        await database.open()
        app[keys.CATALOG] = Uncached(database)
        yield
        await database.close()

    if not cached:
        app.cleanup_ctx.append(without_cache)
    runner = web.AppRunner(app, access_log=None, keepalive_timeout=75.0)
    await runner.setup()
    await web.TCPSite(runner, LOOPBACK, port).start()
    try:
        await asyncio.Event().wait()
    finally:
        await runner.cleanup()


def main() -> None:
    uvloop.run(serve(int(sys.argv[1]), cached=sys.argv[2] == "cached"))


if __name__ == "__main__":
    main()
