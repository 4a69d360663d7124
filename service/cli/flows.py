"""``tollgate flows import`` and ``tollgate flows list``."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Sequence

from service.cli import context
from service.cli.terminal import show as show_lines
from service.cli.terminal import table
from service.flows.definition import FlowDefinition
from service.flows.importing import read_definitions
from service.flows.models import ImportReport, Offer
from service.settings import Settings, load

PAGE = 100


def bring(arguments: argparse.Namespace) -> int:
    """Import a file: all of it or nothing; importing it again changes nothing."""
    settings = load().settings
    definitions = read_definitions(arguments.file)
    report = asyncio.run(_store(settings, definitions))
    for word, slugs in (
        ("created", report.created),
        ("updated", report.updated),
        ("unchanged", report.unchanged),
    ):
        show_lines(*(f"{word} {slug}" for slug in slugs))
    return 0


def show(_arguments: argparse.Namespace) -> int:
    """All flows on sale, by slug."""
    flows = asyncio.run(_all(load().settings))
    if flows:
        table(
            ("FLOW", "VERSION", "VARIANTS", "NAME"),
            ((flow.slug, flow.version, _variants(flow), flow.name) for flow in flows),
        )
    else:
        show_lines("no flows yet; bring some with: tollgate flows import FILE")
    return 0


async def _store(settings: Settings, definitions: Sequence[FlowDefinition]) -> ImportReport:
    async with context.catalog(settings) as catalog:
        return await catalog.store(definitions)


async def _all(settings: Settings) -> list[Offer]:
    flows: list[Offer] = []
    async with context.catalog(settings) as catalog:
        after: str | None = None
        while True:
            page = await catalog.page(after=after, limit=PAGE)
            flows += page.flows
            if (after := page.next) is None:
                return flows


def _variants(flow: Offer) -> str:
    names = []
    for variant in flow.variants.values():
        funds = " + ".join(
            f"{fund.amount} {fund.unit or 'lovelace'}" for fund in variant.requested_funds
        )
        price = "free" if variant.free else funds or "registry price"
        mark = "*" if variant.name == flow.default_variant else ""
        names.append(f"{variant.name}{mark} ({price})")
    return ", ".join(names)
