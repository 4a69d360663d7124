"""``tollgate limits``: what holds and for whom, and changing it for the whole fleet."""

from __future__ import annotations

import argparse
import asyncio
import getpass
import os
import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass

from service.admission.api_keys import KeyHash, new_key
from service.admission.policies import rulebook_from
from service.admission.published import Change, Published, PublishedLimits
from service.admission.rulebook import UNKNOWN_KEY, Rulebook
from service.admission.trial import put_on_trial
from service.cli import context
from service.cli.terminal import complain, moment, table
from service.cli.terminal import show as show_lines
from service.errors import ConfigurationError
from service.settings import PREFIX, Loaded, Rate, Settings, limits_document, limits_from, load
from service.settings.limits import NAME
from service.settings.needed import required
from service.store.client import Store

#: Changes shown by ``history``.
HISTORY = 20


@dataclass(frozen=True, slots=True)
class Effective:
    """The rulebook that holds for the fleet, and the publication it comes from, if any."""

    rulebook: Rulebook
    published: Published | None

    @property
    def source(self) -> str:
        if self.published is None:
            return "files and environment"
        what = "published" if self.published.document else "files and environment, reverted"
        return f"{what} {moment(self.published.at)} by {self.published.author}"


def show(arguments: argparse.Namespace) -> int:
    """The policies in effect for the fleet; those of the files where no Redis is named."""
    settings = load().settings
    if arguments.files or settings.redis.url is None:
        seen = Effective(_own(settings), None)
    else:
        seen = asyncio.run(_ask(settings))
    rulebook = seen.rulebook
    show_lines(f"# source: {seen.source}", f"# version: {rulebook.version}")
    heads = ("POLICY", "RATE", "BURST", "COST", "FULL AFTER", "COUNTS", "ON OUTAGE", "SHADOW")
    table((*heads, "TIER", "ROUTES"), _rows(rulebook))
    for name, tier in ((name, rulebook.tier_of_key.get(name)) for name in rulebook.keys.names()):
        show_lines(f"# key: {name}{f' ({tier})' if tier else ''}")
    for title, listed in (("allow", rulebook.allow), ("deny", rulebook.deny)):
        if listed:
            show_lines(f"# {title}: {', '.join((*listed.networks.texts, *sorted(listed.keys)))}")
    return 0


def key(arguments: argparse.Namespace) -> int:
    """A fresh key, and the table for limits.toml by which it will be known."""
    settings = load().settings
    name, tier = arguments.name, arguments.tier
    if not re.fullmatch(NAME, name) or name == UNKNOWN_KEY:
        raise ConfigurationError(f"no name for a key: {name} (a-z, 0-9, dot, dash, underscore)")
    if name in settings.limits.keys:
        raise ConfigurationError(f"limits.keys.{name} is there already")
    if tier is not None and tier not in settings.limits.tiers:
        known = ", ".join(settings.limits.tiers) or "none"
        raise ConfigurationError(f"there is no tier {tier} in limits.toml; there are: {known}")
    secret = required("admin.key_secret", settings.admin.key_secret)
    fresh = new_key()
    # The tables on stdout, so that they can be appended to the file; the key must not get there.
    complain(f"the key of {name}, shown only this once: {fresh}")
    show_lines(f"[keys.{name}]", f'hash = "{KeyHash(secret).written(fresh)}"')
    if tier is not None:
        show_lines(f'tier = "{tier}"')
    return 0


def apply(arguments: argparse.Namespace) -> int:
    """Publish a file (and the variables of this environment) for the whole fleet."""
    loaded = load(limits=arguments.file)
    _own(loaded.settings)
    document = limits_document(loaded.settings.limits)
    version = asyncio.run(_publish(loaded.settings, document))
    show_lines(f"version {version} holds in every worker within a second", *_sources(loaded))
    return 0


def revert(_arguments: argparse.Namespace) -> int:
    """Let every worker go back to its own files."""
    version = asyncio.run(_publish(load().settings, ""))
    show_lines(f"version {version}: every worker's own files hold again")
    return 0


def shadow(arguments: argparse.Namespace) -> int:
    """Put one policy on trial in every worker, or enforce it again."""
    policy, on = arguments.policy, arguments.switch == "on"
    version = asyncio.run(_trial(load().settings, policy, on, arguments.reason))
    word = "on trial" if on else "enforced"
    show_lines(f"version {version}: {policy} is {word} in every worker within a second")
    return 0


def history(_arguments: argparse.Namespace) -> int:
    """The latest changes made with these commands."""
    changes = asyncio.run(_changes(load().settings))
    table(
        ("TIME", "WHO", "WHAT", "DETAIL"),
        ((moment(c.at), c.author, c.kind, c.detail) for c in changes),
    )
    return 0


def author() -> str:
    """Who gives this command, as the histories show it: user@host."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # an account without a name, as in containers
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"[:100]


async def effective(settings: Settings, store: Store) -> Effective:
    """What holds for the fleet; raises ConfigurationError if that cannot be used here."""
    published = await PublishedLimits(store).read()
    if published is None or not published.document:
        return Effective(_own(settings), published)
    rulebook = rulebook_from(
        limits_from(published.document),
        key_secret=settings.admin.key_secret,
        source=f"published-{published.version}",
    )
    return Effective(rulebook, published)


def _own(settings: Settings) -> Rulebook:
    return rulebook_from(settings.limits, key_secret=settings.admin.key_secret)


async def _ask(settings: Settings) -> Effective:
    async with context.store(settings) as store:
        return await effective(settings, store)


async def _publish(settings: Settings, document: str) -> int:
    async with context.store(settings) as store:
        return await PublishedLimits(store).publish(document, author=author())


async def _trial(settings: Settings, policy: str, on: bool, reason: str) -> int:
    async with context.store(settings) as store:
        return await put_on_trial(
            PublishedLimits(store),
            settings.limits,
            policy,
            on,
            key_secret=settings.admin.key_secret,
            author=author(),
            reason=reason,
        )


async def _changes(settings: Settings) -> list[Change]:
    async with context.store(settings) as store:
        return await PublishedLimits(store).changes(HISTORY)


def _rows(rulebook: Rulebook) -> Iterator[tuple[str, ...]]:
    tiers = [(None, rulebook.policies), *rulebook.tiers.items()]
    for tier, policies in tiers:
        for name, policy in policies.items():
            routes = [route for route, names in rulebook.routes.items() if name in names]
            every = len(routes) == len(rulebook.routes)
            yield (
                name,
                str(Rate(policy.tokens, policy.period_s)),
                str(policy.burst),
                str(policy.cost),
                f"{policy.window_s} s",
                policy.scope,
                policy.on_outage,
                "yes" if policy.shadow else "no",
                tier or "-",
                "*" if every else ",".join(routes),
            )


def _sources(loaded: Loaded) -> list[str]:
    variables = sorted(
        name for name in os.environ if name.startswith(f"{PREFIX}LIMITS__") and os.environ[name]
    )
    return [f"with {source}" for source in (*map(str, loaded.files[-1:]), *variables)]
