"""``tollgate breaker show``."""

from __future__ import annotations

import argparse
import asyncio

from service.breaker.breaker import Breaker
from service.breaker.models import BreakerSnapshot
from service.cli import context
from service.cli.terminal import show as show_lines
from service.errors import StoreUnavailable
from service.settings import Settings, load

#: The one breaker there is (service.wiring).
NAME = "payment"


def show(_arguments: argparse.Namespace) -> int:
    """What a caller of the payment service would meet now."""
    seen = asyncio.run(_snapshot(load().settings))
    show_lines(
        f"breaker     {NAME}",
        f"state       {seen.state}{' (forced by an operator)' if seen.forced else ''}",
        f"failures    {seen.streak} in a row",
        f"retry in    {seen.retry_after_ms / 1000:.1f} s"
        if seen.retry_after_ms
        else "retry in    -",
        f"generation  {seen.generation}",
    )
    return 0


async def _snapshot(settings: Settings) -> BreakerSnapshot:
    async with context.store(settings) as store:
        await store.ping()
        breaker = Breaker(NAME, settings.breaker, store)
        try:
            seen = await breaker.snapshot()
        finally:
            await breaker.close()
    if seen.degraded:
        raise StoreUnavailable
    return seen
