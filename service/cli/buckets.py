"""``tollgate limits peek`` and ``tollgate limits reset``: one principal's buckets."""

from __future__ import annotations

import argparse
import asyncio

from service.admission.limiter import Limiter
from service.admission.models import Decision
from service.admission.published import PublishedLimits
from service.admission.rulebook import Rulebook
from service.api import principals
from service.api.principals import Principal, principal_from
from service.cli import context
from service.cli.limits import author, effective
from service.cli.terminal import show, table
from service.errors import ConfigurationError
from service.settings import Settings, load


def peek(arguments: argparse.Namespace) -> int:
    """What is left in each bucket; changes nothing."""
    if (arguments.principal is None) == (arguments.key is None):
        raise ConfigurationError("name either a PRINCIPAL or a --key")
    given = arguments.principal or f"key:{arguments.key}"
    principal, decision, rulebook = asyncio.run(_peek(load().settings, given))
    show(f"# principal: {principal.text}", f"# limits: {rulebook.version}")
    table(
        ("POLICY", "LEFT", "OF", "FULL IN", "SHADOW"),
        (
            (
                state.policy.name,
                str(state.remaining),
                str(state.policy.burst),
                f"{state.refill_ms / 1000:.1f} s",
                "yes" if state.policy.shadow else "no",
            )
            for state in decision.states
        ),
    )
    return 0


def reset(arguments: argparse.Namespace) -> int:
    """Fill the buckets again, all or that of one policy; workers notice within a second."""
    principal, done = asyncio.run(_reset(load().settings, arguments.principal, arguments.policy))
    show(*(f"{principal.text} {name}: {'reset' if was else 'was full'}" for name, was in done))
    return 0


async def _peek(settings: Settings, given: str) -> tuple[Principal, Decision, Rulebook]:
    async with context.store(settings) as store:
        rulebook = (await effective(settings, store)).rulebook
        principal = principal_from(given, rulebook)
        limiter = Limiter(store, workers_hint=1)
        return principal, await principals.peek(limiter, principal, rulebook), rulebook


async def _reset(
    settings: Settings, given: str, only: str | None
) -> tuple[Principal, list[tuple[str, bool]]]:
    async with context.store(settings) as store:
        rulebook = (await effective(settings, store)).rulebook
        principal = principal_from(given, rulebook)
        done = await principals.reset(
            Limiter(store, workers_hint=1),
            PublishedLimits(store),
            principal,
            only,
            rulebook=rulebook,
            author=author(),
        )
        return principal, done
