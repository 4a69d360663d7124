"""``tollgate breaker``: how the payment service's breaker stands, and taking it in hand."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Literal

from service.breaker.breaker import LONGEST_FORCE_S, Breaker
from service.breaker.models import BreakerSnapshot, Event
from service.cli import context
from service.cli.limits import author
from service.cli.terminal import moment, table
from service.cli.terminal import show as show_lines
from service.errors import ConfigurationError, StoreUnavailable
from service.settings import BreakerSettings, Settings, load

#: The one breaker there is (service.wiring).
NAME = "payment"


def show(arguments: argparse.Namespace) -> int:
    """What a caller of the payment service would meet now, and how it came to that."""
    settings = load().settings
    seen, events = asyncio.run(_look(settings, arguments.events))
    fields = _fields(seen, settings.breaker)
    width = max(len(name) for name, _ in fields)
    show_lines(*(f"{name:{width}}  {value}" for name, value in fields))
    if events:
        show_lines("")
        table(("TIME", "FROM", "TO", "CAUSE", "WHO", "DETAIL"), map(_row, events))
    return 0


def force(arguments: argparse.Namespace) -> int:
    """Hold it open or closed for a time, whatever happens meanwhile."""
    seconds, reason = arguments.seconds, _reason(arguments.reason)
    if not 0 < seconds <= LONGEST_FORCE_S:
        raise ConfigurationError(
            f"--for {seconds:g}: must be above 0 and at most {LONGEST_FORCE_S:.0f} seconds"
        )
    asyncio.run(_force(load().settings, arguments.state, seconds, reason))
    show_lines(f"{NAME}: held {arguments.state} for {seconds:g} s, by every worker in a second")
    return 0


def reset(arguments: argparse.Namespace) -> int:
    """Close it: nothing counted, no pause, no force."""
    asyncio.run(_reset(load().settings, arguments.reason))
    show_lines(f"{NAME}: closed and nothing counted, for every worker in a second")
    return 0


async def _look(settings: Settings, count: int) -> tuple[BreakerSnapshot, tuple[Event, ...]]:
    async with _breaker(settings) as breaker:
        seen = await breaker.snapshot()
        if seen.degraded:
            raise StoreUnavailable
        return seen, await breaker.history(count) if count else ()


async def _force(
    settings: Settings, state: Literal["open", "closed"], seconds: float, reason: str
) -> None:
    async with _breaker(settings) as breaker:
        await breaker.force(state, seconds, by=author(), reason=reason)


async def _reset(settings: Settings, reason: str) -> None:
    async with _breaker(settings) as breaker:
        await breaker.reset(by=author(), reason=reason)


@asynccontextmanager
async def _breaker(settings: Settings) -> AsyncIterator[Breaker]:
    async with context.store(settings) as store:
        await store.ping()
        breaker = Breaker(NAME, settings.breaker, store)
        try:
            yield breaker
        finally:
            await breaker.close()


def _reason(text: str) -> str:
    """Whoever finds a held breaker must find out why."""
    if not text.strip():
        raise ConfigurationError("--reason: must say why")
    return text.strip()


def _fields(seen: BreakerSnapshot, settings: BreakerSettings) -> list[tuple[str, str]]:
    wait = f"{seen.retry_after_ms / 1000:.1f} s" if seen.retry_after_ms else "-"
    fields = [
        ("breaker", NAME),
        ("state", f"{seen.state}{' (forced by an operator)' if seen.forced else ''}"),
        (
            "failures",
            f"{seen.streak} {settings.count} in a row, of {settings.failure_threshold} "
            "that open it",
        ),
        ("retry in", wait),
        ("last error", seen.error or "-"),
        ("generation", str(seen.generation)),
    ]
    if held := seen.force:
        fields.insert(2, ("held by", f"{held.by} for another {held.left_ms / 1000:.0f} s"))
        fields.insert(3, ("because", held.reason))
    return fields


def _row(event: Event) -> tuple[str, ...]:
    made = event.transition
    lasts = f"for {event.seconds:g} s" if event.seconds else ""
    detail = ": ".join(part for part in (lasts, event.detail) if part)
    who = event.by or event.worker
    return (moment(event.at), made.before, made.after, made.cause, who, detail)
